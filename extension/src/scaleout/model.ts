import type { IDisposable } from '@lumino/disposable';
import { DisposableDelegate } from '@lumino/disposable';
import { Token } from '@lumino/coreutils';

import type { Client } from '../api/client';
import { Resource } from '../api/resource';
import type { ICluster, IItems, ISite, IWorkers } from '../api/types';

export const HISTORY = 60;
const ENDED = new Set(['stopped', 'failed']);
const MOVING = new Set(['pending', 'starting', 'stopping']);

/** What is asked for with a new cluster. */
export interface IRequest {
  site: string;
  workers: number;
}

/** Workers of one cluster, read only as often as somebody looks. */
export class WorkersFeed {
  constructor(client: Client, cluster: string) {
    this.now = new Resource<IWorkers>(() => client.local(`clusters/${cluster}/workers`));
    this.now.changed.connect(() => this._remember());
  }

  readonly now: Resource<IWorkers>;
  memory: number[] = [];
  cpu: number[] = [];

  /** Read every `ms` until disposed; of several watchers the most impatient one counts. */
  watch(ms: number): IDisposable {
    const key = {};
    this._watchers.set(key, ms);
    this._restart();
    return new DisposableDelegate(() => {
      this._watchers.delete(key);
      this._restart();
    });
  }

  /** Ask no more: the cluster is being stopped, and every further question would be a 404 in the console. */
  end(): void {
    this._ended = true;
    this._restart();
  }

  private _restart(): void {
    const period = this._ended ? Infinity : Math.min(...this._watchers.values());
    if (period === this._period) {
      return;
    }
    this._period = period;
    clearInterval(this._timer);
    if (Number.isFinite(period)) {
      const read = (): void => {
        if (document.visibilityState === 'visible') {
          void this.now.refresh();
        }
      };
      this._timer = setInterval(read, period);
      read();
    }
  }

  private _remember(): void {
    if (this.now.value && !this.now.problem) {
      const { totals } = this.now.value;
      this.memory = [...this.memory, totals.memory].slice(-HISTORY);
      this.cpu = [...this.cpu, totals.cpu].slice(-HISTORY);
    }
  }

  private readonly _watchers = new Map<object, number>();
  private _ended = false;
  private _period = Infinity;
  private _timer: ReturnType<typeof setInterval> | undefined;
}

/** Clusters and sites, as the panel, the status bar, the launcher and the commands share them. */
export class ScaleoutModel {
  constructor(private readonly _client: Client) {
    this.clusters = new Resource<ICluster[]>(async () => {
      const found = (await _client.get<IItems<ICluster>>('scaleout/clusters')).items;
      return found.filter(cluster => cluster.status !== 'stopped');
    });
    this.sites = new Resource<ISite[]>(async () => (await _client.get<IItems<ISite>>('scaleout/sites')).items);
    this.clusters.changed.connect(() => this._forget());
  }

  readonly clusters: Resource<ICluster[]>;
  readonly sites: Resource<ISite[]>;

  /** Clusters that exist or are on their way. */
  get alive(): ICluster[] {
    return (this.clusters.value ?? []).filter(cluster => !ENDED.has(cluster.status));
  }

  /** Whether something is about to change by itself. */
  get isMoving(): boolean {
    return this.alive.some(
      cluster => MOVING.has(cluster.status) || (!cluster.adaptive && cluster.workers.running !== cluster.workers.wanted)
    );
  }

  feed(cluster: string): WorkersFeed {
    let feed = this._feeds.get(cluster);
    if (!feed) {
      feed = new WorkersFeed(this._client, cluster);
      this._feeds.set(cluster, feed);
    }
    return feed;
  }

  /** Address of a cluster's dashboard, behind the hub's login. */
  dashboard(cluster: ICluster): string {
    const { baseUrl } = this._client.settings;
    return cluster.dashboard && !/^https?:/.test(cluster.dashboard)
      ? baseUrl.replace(/\/$/, '') + '/' + cluster.dashboard.replace(/^\//, '')
      : this._client.url(`clusters/${cluster.name}/dashboard/status`);
  }

  async create(request: IRequest): Promise<ICluster | null> {
    const made = await this._client.send<ICluster>('POST', 'scaleout/clusters', request);
    await this._reread();
    return made;
  }

  async scale(cluster: string, workers: number): Promise<void> {
    await this._client.send('POST', `scaleout/clusters/${cluster}/scale`, { workers });
    await this._reread();
  }

  async adapt(cluster: string, minimum: number, maximum: number): Promise<void> {
    await this._client.send('POST', `scaleout/clusters/${cluster}/scale`, { minimum, maximum });
    await this._reread();
  }

  async stop(cluster: string): Promise<void> {
    this._feeds.get(cluster)?.end();
    await this._client.send('DELETE', `scaleout/clusters/${cluster}`);
    await this._reread();
  }

  /** What is left at a site changes with every cluster. */
  private async _reread(): Promise<void> {
    await Promise.all([this.clusters.refresh(), this.sites.refresh()]);
  }

  private _forget(): void {
    const names = new Set(this.alive.map(cluster => cluster.name));
    for (const name of this._feeds.keys()) {
      if (this.clusters.value && !names.has(name)) {
        this._feeds.delete(name);
      }
    }
  }

  private readonly _feeds = new Map<string, WorkersFeed>();
}

export const IScaleout = new Token<ScaleoutModel>('@specola/lab:IScaleout', 'Dask clusters of this person.');
