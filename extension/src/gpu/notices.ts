import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Notification } from '@jupyterlab/apputils';
import type { IDisposable } from '@lumino/disposable';

import type { ILease } from '../api/types';
import { clock, many, span } from '../ui/format';
import { OPEN_PANEL } from '../panel/plugin';
import { IGpus } from './model';
import type { GpuModel } from './model';
import { at, ends, named, outcome, shortNotice } from './words';

const LEADS = [2 * 60_000, 10 * 60_000]; // nearest first
const LOOK_MS = 5_000;

/** What can be done from a notice. */
export interface IDeeds {
  renew: (lease: ILease) => void;
  open: () => void;
}

interface ITold {
  key: string;
  id: string;
}

/**
 * Says what a person should know although the panel is closed: that a slice is there, that a lease ends in ten and in
 * two minutes, that an idle one is taken back, and how it ended. Each thing is said once; what no longer holds goes away.
 */
export class Notices implements IDisposable {
  constructor(
    private readonly _model: GpuModel,
    private readonly _deeds: IDeeds
  ) {
    _model.changed.connect(this._look, this);
    this._timer = setInterval(() => this._look(), LOOK_MS);
  }

  get isDisposed(): boolean {
    return this._disposed;
  }

  dispose(): void {
    this._disposed = true;
    clearInterval(this._timer);
    this._model.changed.disconnect(this._look, this);
  }

  private _look(): void {
    const leases = this._model.leases.value ?? [];
    if (!this._begun && this._model.leases.value) {
      // what had ended before this page was opened is in the panel, and no news
      leases.filter(lease => lease.state === 'ended').forEach(lease => this._told.set(lease.id, { key: 'ended', id: '' }));
      this._begun = true;
    }
    leases.forEach(lease => this._consider(lease, Date.now()));
  }

  private _consider(lease: ILease, now: number): void {
    const key = this._model.isDismissed(lease.id) ? '' : topic(lease, now);
    const last = this._told.get(lease.id);
    if (last?.key === key) {
      return;
    }
    if (last?.id) {
      Notification.dismiss(last.id);
    }
    this._told.set(lease.id, { key, id: key ? this._say(lease, key, now) : '' });
  }

  private _say(lease: ILease, key: string, now: number): string {
    const renew = { label: 'Renew', callback: () => this._deeds.renew(lease), displayType: 'accent' as const };
    const keep = { ...renew, label: 'Keep it' };
    const open = { label: 'Show', callback: () => this._deeds.open() };
    const stays = { autoClose: false as const };
    if (key === 'offered') {
      const until = `It is held for you until ${clock(ends(lease))}.`;
      return Notification.info(`Your GPU is there: ${named(lease)}. ${until}`, { ...stays, actions: [open] });
    }
    if (key.startsWith('reclaimed')) {
      return Notification.warning(shortNotice(lease), { ...stays, actions: [keep, open] });
    }
    if (key.startsWith('drained') || key === 'ended') {
      const text = key === 'ended' ? farewell(lease) : shortNotice(lease);
      return Notification.warning(text, { ...stays, actions: [open] });
    }
    const left = span(ends(lease) - now);
    return Notification.warning(`Your GPU (${named(lease)}) ends in ${left}, at ${clock(ends(lease))}.`, {
      ...stays,
      actions: [renew, open]
    });
  }

  private readonly _told = new Map<string, ITold>();
  private readonly _timer: ReturnType<typeof setInterval>;
  private _begun = false;
  private _disposed = false;
}

function farewell(lease: ILease): string {
  const { names, failed } = lease.saved ?? { names: [], failed: [] };
  const not = failed.length ? `, ${failed.length} could not be` : '';
  const saved = lease.saved ? ` ${many(names.length, 'variable')} saved${not}.` : '';
  return `Your GPU (${named(lease)}) is gone: ${outcome(lease)}.${saved}`;
}

/** What is to be said of a lease now; empty for nothing. A renewal changes the end, and so the topic. */
export function topic(lease: ILease, now: number): string {
  const end = ends(lease);
  if (lease.state === 'offered' && lease.on_grant === 'hold') {
    return 'offered';
  }
  if (lease.state === 'ended') {
    return lease.outcome === 'released' || lease.outcome === 'cancelled' ? '' : 'ended';
  }
  if (lease.state === 'expiring' && lease.cause !== 'term') {
    return lease.cause === 'released' ? '' : `${lease.cause} ${end}`;
  }
  if (lease.state !== 'active' && lease.state !== 'expiring') {
    return '';
  }
  const length = end - at(lease.active);
  const due = LEADS.find(lead => end - now <= lead && (length > lead || lease.state === 'expiring'));
  return due === undefined ? '' : `ends ${end} ${due}`;
}

/** Warns before a lease ends, with a button that renews it. */
export const gpuNoticesPlugin: JupyterFrontEndPlugin<void> = {
  id: '@specola/lab:gpu-notices',
  description: 'Says when a GPU is there, and warns before a lease ends or is taken back, with a button that renews it.',
  autoStart: true,
  requires: [IGpus],
  activate: (app: JupyterFrontEnd, model: GpuModel): void => {
    const renew = (lease: ILease): void => {
      const fresh = model.held.find(one => one.id === lease.id) ?? lease;
      model.keep(fresh).then(
        () => Notification.success('Kept.', { autoClose: 3000 }),
        error => Notification.error(`It could not be kept: ${String(error.message)}`, { autoClose: false })
      );
    };
    const open = (): void => void app.commands.execute(OPEN_PANEL);
    new Notices(model, { renew, open });
    void model.leases.refresh();
  }
};
