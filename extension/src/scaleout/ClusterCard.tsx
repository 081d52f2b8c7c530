import * as React from 'react';

import { ProblemError } from '../api/client';
import type { ICluster, IProblem } from '../api/types';
import { Bar } from '../ui/charts';
import { clock, many } from '../ui/format';
import { Problem } from '../ui/states';
import type { ScaleoutModel } from './model';
import { Scale } from './Scale';
import { Workers } from './Workers';

/** What only the Lab can do for a card. */
export interface IActions {
  insert: (cluster: ICluster) => void;
  confirmStop: (cluster: ICluster) => Promise<boolean>;
  openDashboard: (url: string) => void;
}

const DOT: Record<string, string> = { running: 'ok', failed: 'bad', stopping: 'off', stopped: 'off' };

/** The gateway's names are 32 hex digits; eight tell two clusters of a person apart. */
export function shortName(cluster: ICluster): string {
  return cluster.name.length > 16 ? cluster.name.slice(0, 8) : cluster.name;
}

/** One line on what happens, and what happens next. */
export function sentence(cluster: ICluster): string {
  const { wanted, running, starting } = cluster.workers;
  const parts: string[] = [];
  if (cluster.reason) {
    parts.push(cluster.reason);
  } else if (cluster.status === 'pending' || cluster.status === 'starting') {
    parts.push('The scheduler is starting.');
  } else if (cluster.status === 'stopping') {
    parts.push('Stopping…');
  } else if (running < wanted) {
    parts.push(starting ? `${many(starting, 'worker')} starting.` : `${many(wanted - running, 'worker')} to come.`);
  }
  if (cluster.stops_at && cluster.idle_since) {
    parts.push(`Idle; stops at ${clock(1000 * cluster.stops_at)} if nothing runs.`);
  }
  return parts.join(' ');
}

function Head(props: { cluster: ICluster; stop: () => void }): JSX.Element {
  const { cluster, stop } = props;
  const ready = cluster.status === 'running';
  const over = cluster.status === 'failed' || cluster.status === 'stopping';
  return (
    <div className="specola-Row">
      <span className={`specola-Dot specola-mod-${DOT[cluster.status] ?? 'warn'}`} aria-hidden="true" />
      <b title={cluster.name}>{shortName(cluster)}</b>
      <span className="specola-Muted">{ready ? '' : cluster.status}</span>
      <span className="specola-grow" />
      {!over && (
        <button className="specola-Button" aria-label={`Stop cluster ${shortName(cluster)}`} onClick={stop}>
          Stop
        </button>
      )}
    </div>
  );
}

/** A cluster: its state, its workers, and what can be done with it. */
export function ClusterCard(props: {
  cluster: ICluster;
  model: ScaleoutModel;
  actions: IActions;
  most: number;
  visible: boolean;
}): JSX.Element {
  const { cluster, model, actions } = props;
  const [problem, setProblem] = React.useState<IProblem | null>(null);
  const attempt = async (work: Promise<void>): Promise<boolean> => {
    setProblem(null);
    try {
      await work;
      return true;
    } catch (error) {
      if (!(error instanceof ProblemError)) {
        throw error;
      }
      setProblem(error.problem);
      return false;
    }
  };
  const stop = (): void => {
    void attempt(
      actions.confirmStop(cluster).then(async yes => {
        if (yes) {
          await model.stop(cluster.name);
        }
      })
    );
  };
  const { wanted, running } = cluster.workers;
  const text = sentence(cluster);
  const ready = cluster.status === 'running';
  return (
    <article className="specola-Card" aria-label={`Cluster ${shortName(cluster)}, ${cluster.status}`}>
      <Head cluster={cluster} stop={stop} />
      {cluster.status !== 'failed' && (
        <div className="specola-Row">
          <span className="specola-Row-label">{cluster.site}</span>
          <Bar label={`Workers at ${cluster.site}`} value={running} top={Math.max(wanted, running)} />
          <span className="specola-Muted">
            {running} / {wanted}
          </span>
        </div>
      )}
      {text && (
        <div className={cluster.status === 'failed' ? 'specola-Note specola-mod-bad' : 'specola-Muted'} role="status">
          {text}
        </div>
      )}
      {problem && <Problem problem={problem} dismiss={() => setProblem(null)} />}
      {ready && (
        <>
          <Scale
            cluster={cluster}
            most={props.most}
            ask={wish =>
              attempt(
                'workers' in wish
                  ? model.scale(cluster.name, wish.workers)
                  : model.adapt(cluster.name, wish.minimum, wish.maximum)
              )
            }
          />
          <Workers feed={model.feed(cluster.name)} visible={props.visible} />
          <div className="specola-Row">
            <button className="specola-Button" onClick={() => actions.insert(cluster)}>
              Insert cell
            </button>
            <button className="specola-Button" onClick={() => actions.openDashboard(model.dashboard(cluster))}>
              Dashboard
            </button>
          </div>
        </>
      )}
    </article>
  );
}
