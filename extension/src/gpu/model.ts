import { Token } from '@lumino/coreutils';
import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';

import { ProblemError } from '../api/client';
import type { Client } from '../api/client';
import { Resource } from '../api/resource';
import type { IAdvice, IItems, ILease, INewWish, IOffers, IWish } from '../api/types';

const MOVING = new Set<ILease['state']>(['making', 'starting', 'saving', 'ending']);
const WORTH_TELLING = new Set<ILease['outcome']>(['reclaimed', 'expired', 'drained', 'lapsed', 'failed']);
const ABSENT = 404;
const DISMISSED = 'specola:gpu-dismissed';
const MOST_REMEMBERED = 100;

/** What was saved of a GPU kernel, as the own server keeps it. */
export interface ISnapshot {
  /** The id of the lease that it comes from. */
  name: string;
  /** Seconds since 1970. */
  created: number;
  names: string[];
}

function remembered(): Set<string> {
  try {
    return new Set(JSON.parse(localStorage.getItem(DISMISSED) ?? '[]') as string[]);
  } catch {
    return new Set();
  }
}

/** GPUs, wishes and leases, as the panel, the status bar, the notices and the commands share them. */
export class GpuModel {
  constructor(private readonly _client: Client) {
    this.offers = new Resource<IOffers>(() => _client.get('gpu/offers'));
    this.wishes = new Resource<IWish[]>(async () => (await _client.get<IItems<IWish>>('gpu/requests')).items);
    this.leases = new Resource<ILease[]>(async () => (await _client.get<IItems<ILease>>('gpu/leases')).items);
    this.snapshots = new Resource<ISnapshot[]>(async () => (await _client.local<IItems<ISnapshot>>('gpu/snapshots')).items);
    for (const part of [this.offers, this.wishes, this.leases, this.snapshots]) {
      part.changed.connect(() => this._changed.emit());
    }
  }

  readonly offers: Resource<IOffers>;
  readonly wishes: Resource<IWish[]>;
  readonly leases: Resource<ILease[]>;
  readonly snapshots: Resource<ISnapshot[]>;

  /** Something of all this is new. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** Slices that the person holds or is about to get. */
  get held(): ILease[] {
    return (this.leases.value ?? []).filter(lease => lease.state !== 'ended');
  }

  /** Wishes that wait. */
  get queued(): IWish[] {
    return (this.wishes.value ?? []).filter(wish => wish.state === 'queued');
  }

  /** Wishes that failed and leases that ended otherwise than by their owner's hand, until they are dismissed. */
  get past(): { wishes: IWish[]; leases: ILease[] } {
    const fresh = ({ id }: { id: string }): boolean => !this.isDismissed(id);
    return {
      wishes: (this.wishes.value ?? []).filter(wish => wish.state === 'failed' && fresh(wish)),
      leases: (this.leases.value ?? []).filter(
        lease => lease.state === 'ended' && fresh(lease) && (WORTH_TELLING.has(lease.outcome) || lease.saved !== null)
      )
    };
  }

  /** Whether something is about to change by itself. */
  get isMoving(): boolean {
    return this.queued.length > 0 || this.held.some(lease => MOVING.has(lease.state) || lease.state === 'expiring');
  }

  /** Whether the facility knows nothing of GPUs, or has none. */
  get isAbsent(): boolean {
    return this.offers.value?.pools.length === 0 || this.offers.problem?.status === ABSENT;
  }

  /** What a size would mean now. */
  advice(gib: number, minutes: number, pool: string): Promise<IAdvice> {
    const query = new URLSearchParams({ gib: String(gib), minutes: String(minutes), ...(pool ? { pool } : {}) });
    return this._client.get(`gpu/advice?${query.toString()}`);
  }

  async ask(wish: INewWish): Promise<void> {
    await this._client.send('POST', 'gpu/requests', wish);
    await this.reread();
  }

  async cancel(wish: IWish): Promise<void> {
    await this._client.send('DELETE', `gpu/requests/${wish.id}`);
    await this.reread();
  }

  async renew(lease: ILease, minutes: number): Promise<void> {
    await this._client.send('POST', `gpu/leases/${lease.id}/renew`, { token: lease.token, minutes });
    await this.reread();
  }

  /** A person's word that an idle slice is needed; the lease gets no longer by it than a minute. */
  keep(lease: ILease): Promise<void> {
    return this.renew(lease, lease.cause === 'reclaimed' ? 1 : this.term(lease));
  }

  async release(lease: ILease): Promise<void> {
    await this._client.send('DELETE', `gpu/leases/${lease.id}?token=${lease.token}`);
    await this.reread();
  }

  /** Ask once more for what an ended lease was. */
  async askAgain(lease: ILease): Promise<void> {
    const before = this.wishes.value?.find(wish => wish.id === lease.request);
    const size: INewWish = before?.gib ? { gib: before.gib } : { shape: lease.shape };
    const kind: INewWish = lease.on_grant === 'notebook' ? { on_grant: 'hold' } : { on_grant: lease.on_grant };
    await this.ask({ ...size, ...kind, minutes: before?.minutes ?? this.term(lease), group: lease.group });
    this.dismiss(lease.id);
  }

  /** Minutes that the lease was asked for: what a renewal adds. */
  term(lease: ILease): number {
    const asked = this.wishes.value?.find(wish => wish.id === lease.request)?.minutes;
    const lasted = (Date.parse(lease.expires ?? '') - Date.parse(lease.active ?? '')) / 60_000;
    return asked ?? Math.max(1, Math.round(lasted) || 60);
  }

  /** Say no more of something that is over; this browser remembers it. */
  dismiss(id: string): void {
    this._dismissed.add(id);
    try {
      localStorage.setItem(DISMISSED, JSON.stringify([...this._dismissed].slice(-MOST_REMEMBERED)));
    } catch {
      // a browser that keeps nothing shows it again after a reload
    }
    this._changed.emit();
  }

  isDismissed(id: string): boolean {
    return this._dismissed.has(id);
  }

  /** What was saved of an earlier GPU kernel, while nobody has restored or dismissed it. */
  get snapshot(): ISnapshot | undefined {
    const [newest] = this.snapshots.value ?? [];
    const own = this.held.some(lease => lease.id === newest?.name);
    return newest && !own && !this._dismissed.has(`saved ${newest.name}`) ? newest : undefined;
  }

  /** Offer a snapshot no more. */
  dismissSnapshot(name: string): void {
    this.dismiss(`saved ${name}`);
  }

  /** Whether a new GPU kernel would get this lease: the server takes the newest that waits for one. */
  isNext(lease: ILease): boolean {
    const waiting = this.held.filter(one => one.state === 'offered' && one.server === null);
    return lease === waiting.reduce((last, one) => (one.granted > last.granted ? one : last), waiting[0]);
  }

  /** Read everything that a change may have touched. */
  async reread(): Promise<void> {
    await Promise.all([this.wishes.refresh(), this.leases.refresh(), this.offers.refresh()]);
  }

  private readonly _changed = new Signal<this, void>(this);
  private readonly _dismissed = remembered();
}

/** The problem that an attempt met; everything else is a mistake of ours and goes on up. */
export function problemOf(error: unknown): ProblemError['problem'] {
  if (error instanceof ProblemError) {
    return error.problem;
  }
  throw error;
}

export const IGpus = new Token<GpuModel>('@specola/lab:IGpus', 'GPUs, wishes and leases of this person.');
