import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';

import { ProblemError } from './client';
import type { IProblem } from './types';

function asProblem(error: unknown): IProblem {
  if (error instanceof ProblemError) {
    return error.problem;
  }
  const title = error instanceof Error ? error.message : String(error);
  return { type: 'about:blank', title, status: 0, detail: '', reason: 'client', request_id: '' };
}

/** Something read from the facility: the last good value, and why the newest try failed. */
export class Resource<T> {
  constructor(private readonly _read: () => Promise<T>) {}

  value: T | null = null;
  problem: IProblem | null = null;
  /** When `value` was read, in ms. */
  at = 0;

  get changed(): ISignal<Resource<T>, void> {
    return this._changed;
  }

  /** Read again; calls that come while one is under way share one more reading after it. */
  refresh(): Promise<void> {
    if (this._running) {
      this._again = true;
      return this._running;
    }
    this._running = this._refresh().finally(() => {
      this._running = null;
      if (this._again) {
        this._again = false;
        void this.refresh();
      }
    });
    return this._running;
  }

  private async _refresh(): Promise<void> {
    try {
      this.value = await this._read();
      this.problem = null;
      this.at = Date.now();
    } catch (error) {
      this.problem = asProblem(error);
    }
    this._changed.emit();
  }

  private readonly _changed = new Signal<this, void>(this);
  private _running: Promise<void> | null = null;
  private _again = false;
}
