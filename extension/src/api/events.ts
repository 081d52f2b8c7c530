import type { IDisposable } from '@lumino/disposable';
import { DisposableDelegate } from '@lumino/disposable';
import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';

import type { Client } from './client';
import { EventParser } from './sse';
import type { IEvent } from './sse';

export type { IEvent } from './sse';

/** Whether the stream stands, and since when (ms) it does or does not. */
export interface IOnline {
  online: boolean;
  since: number;
}

/** What the plugins see of the stream. */
export interface IEvents {
  readonly state: IOnline;
  readonly stateChanged: ISignal<IEvents, IOnline>;
  on(type: string, tell: (event: IEvent) => void): IDisposable;
}

/** The event that says: you missed some, read everything anew. */
export const RESYNC = 'resync';

const SILENCE_MS = 45_000; // three heartbeats of the service
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 30_000;

type Message = { kind: 'event'; event: IEvent } | { kind: 'state'; state: IOnline } | { kind: 'hello' };

/**
 * One stream per browser. Tabs agree through a Web Lock on the one that reads; it passes events on through a
 * BroadcastChannel, and when it closes the next tab gets the lock and goes on after the last event seen.
 * Without locks (a plain http page that is not on localhost) each tab reads for itself.
 */
export class EventStream implements IEvents, IDisposable {
  constructor(private readonly _client: Client) {
    const name = `specola:${_client.url('')}`;
    this._channel = typeof BroadcastChannel === 'undefined' ? null : new BroadcastChannel(name);
    this._channel?.addEventListener('message', message => this._heard(message.data as Message));
    this._channel?.postMessage({ kind: 'hello' } satisfies Message);
    void this._lead(name);
  }

  get state(): IOnline {
    return this._state;
  }

  get stateChanged(): ISignal<IEvents, IOnline> {
    return this._stateChanged;
  }

  get isDisposed(): boolean {
    return this._stop.signal.aborted;
  }

  on(type: string, tell: (event: IEvent) => void): IDisposable {
    const slot = (_: unknown, event: IEvent): void => {
      if (event.type === type) {
        tell(event);
      }
    };
    this._event.connect(slot);
    return new DisposableDelegate(() => this._event.disconnect(slot));
  }

  dispose(): void {
    this._stop.abort();
    this._channel?.close();
    Signal.clearData(this);
  }

  private async _lead(name: string): Promise<void> {
    const locks = this._channel && typeof navigator !== 'undefined' ? navigator.locks : undefined;
    try {
      if (locks) {
        await locks.request(name, { signal: this._stop.signal }, () => this._read());
      } else {
        await this._read();
      }
    } catch (error) {
      if (!this._stop.signal.aborted) {
        throw error;
      }
    }
  }

  private async _read(): Promise<void> {
    this._leads = true;
    let wait = FIRST_WAIT_MS;
    while (!this._stop.signal.aborted) {
      const opened = Date.now();
      try {
        await this._readOnce();
      } catch {
        // what went wrong is said by the requests that people wait for
      }
      wait = Date.now() - opened > SILENCE_MS ? FIRST_WAIT_MS : wait;
      this._enter(false);
      await pause(wait * (0.75 + Math.random() / 2), this._stop.signal);
      wait = Math.min(2 * wait, LONGEST_WAIT_MS);
    }
  }

  private async _readOnce(): Promise<void> {
    const abort = new AbortController();
    const cut = (): void => abort.abort();
    this._stop.signal.addEventListener('abort', cut, { once: true });
    let silence = setTimeout(cut, SILENCE_MS);
    try {
      const headers: Record<string, string> = { Accept: 'text/event-stream' };
      if (this._lastId) {
        headers['Last-Event-ID'] = this._lastId;
      }
      const response = await this._client.open('api/v1/events', { headers, cache: 'no-store', signal: abort.signal });
      const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new EventParser();
      this._enter(true);
      for (;;) {
        const { value, done } = await reader.read();
        if (done) {
          return;
        }
        clearTimeout(silence);
        silence = setTimeout(cut, SILENCE_MS);
        parser.push(value).forEach(event => this._publish(event));
      }
    } finally {
      clearTimeout(silence);
      this._stop.signal.removeEventListener('abort', cut);
    }
  }

  private _publish(event: IEvent): void {
    this._take(event);
    this._channel?.postMessage({ kind: 'event', event } satisfies Message);
  }

  private _take(event: IEvent): void {
    this._lastId = event.id || this._lastId;
    this._event.emit(event);
  }

  private _enter(online: boolean): void {
    if (this._state.online === online && this._told) {
      return;
    }
    this._told = true;
    this._apply({ online, since: Date.now() });
    this._channel?.postMessage({ kind: 'state', state: this._state } satisfies Message);
  }

  private _apply(state: IOnline): void {
    const returned = state.online && !this._state.online;
    this._state = state;
    this._stateChanged.emit(state);
    if (returned) {
      this._event.emit({ id: '', type: RESYNC, data: {} });
    }
  }

  private _heard(message: Message): void {
    if (message.kind === 'event') {
      this._take(message.event);
    } else if (message.kind === 'state') {
      this._apply(message.state);
    } else if (this._leads) {
      this._channel?.postMessage({ kind: 'state', state: this._state } satisfies Message);
    }
  }

  private readonly _stop = new AbortController();
  private readonly _channel: BroadcastChannel | null;
  private readonly _event = new Signal<this, IEvent>(this);
  private readonly _stateChanged = new Signal<this, IOnline>(this);
  private _state: IOnline = { online: true, since: Date.now() };
  private _told = false;
  private _leads = false;
  private _lastId = '';
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });
}
