import type { IChoice, IGpu, ILease, IOffers, IPart, IPool, IWish } from '../../api/types';

/** A slice or free room. */
export function part(change: Partial<IPart> = {}): IPart {
  return { start: 0, size: 8, shape: null, state: 'free', mine: false, lease: null, ...change };
}

/** A GPU, free unless its parts are given. */
export function gpu(change: Partial<IGpu> = {}): IGpu {
  return { id: 'GPU-0', index: 0, slots: 8, parts: [part()], drained: false, healthy: true, reason: '', ...change };
}

/** A pool of one simulated A100 with three sizes. */
export function pool(change: Partial<IPool> = {}): IPool {
  const size = (shape: string, profile: string, gib: number, slots: number, free: number): IPool['shapes'][number] => {
    return { shape, profile, gib, slots, free, total: 8 / slots, wait: null };
  };
  return {
    name: 'a100',
    model: 'A100-40GB',
    actuator: 'simulated',
    simulated: true,
    granularity: 'instance',
    controls_placement: true,
    available: true,
    reason: '',
    home: 'shared',
    gpus: [gpu()],
    shapes: [size('1g', '1g.5gb', 4.75, 1, 7), size('3g', '3g.20gb', 19.5, 4, 2), size('7g', '7g.40gb', 39.25, 8, 0)],
    queued: 0,
    ...change
  };
}

export function offers(change: Partial<IOffers> = {}): IOffers {
  const allowances = [{ group: 'cms', used_slots: 4, max_slots: 7, guaranteed_slots: 2, longest_minutes: 480 }];
  return { at: '2026-11-21T15:00:00Z', pools: [pool()], allowances, hold: 900, ...change };
}

export function choice(change: Partial<IChoice> = {}): IChoice {
  const size = { pool: 'a100', shape: '3g', profile: '3g.20gb', gib: 19.5, slots: 4, free: 2, wait: null };
  return { ...size, text: '3g.20gb: 19.5 GB can be used', ...change };
}

/** A wish in the queue. */
export function wish(change: Partial<IWish> = {}): IWish {
  return {
    id: 'w1',
    state: 'queued',
    group: 'cms',
    wants: [choice()],
    gib: 20,
    minutes: 120,
    on_grant: 'hold',
    notebook: null,
    server: false,
    created: '2026-11-21T14:51:00Z',
    position: 1,
    wait: { low: 240, high: 1140 },
    reason: 'Your group holds 5 of its 7 slots.',
    lease: null,
    ...change
  };
}

/** A slice that a kernel computes on. */
export function lease(change: Partial<ILease> = {}): ILease {
  return {
    id: 'l1',
    request: 'w0',
    state: 'active',
    outcome: null,
    pool: 'a100',
    model: 'A100-40GB',
    simulated: true,
    shape: '3g',
    profile: '3g.20gb',
    gib: 19.5,
    slots: 4,
    gpu: 'GPU-0',
    start: 0,
    device: 'MIG-1',
    group: 'cms',
    token: 3,
    on_grant: 'hold',
    notebook: null,
    server: null,
    kernel: 'k1',
    reason: '',
    granted: '2026-11-21T14:40:00Z',
    active: '2026-11-21T14:42:00Z',
    expires: '2026-11-21T16:42:00Z',
    ends_at: null,
    cause: null,
    longest: '2026-11-21T22:42:00Z',
    idle_since: null,
    signal: 'gpu',
    checkpoint: true,
    reclaimable: true,
    saved: null,
    activity: [],
    ...change
  };
}
