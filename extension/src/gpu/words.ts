import type { IChoice, ILease, IOffers, IPool, IRange, IWish } from '../api/types';
import { clock, many, span } from '../ui/format';

/** Milliseconds of a time on the wire. */
export function at(text: string | null): number {
  return text === null ? NaN : Date.parse(text);
}

/** The size as people say it: `3g.20gb` is 20 GB, though a little less can be used. */
export function said(size: { profile: string; gib: number }): number {
  const name = /(\d+)gb/i.exec(size.profile);
  return name ? Number(name[1]) : Math.round(size.gib);
}

/** "4 – 19 min", "at least 4 min", "less than a minute"; nothing to say is said too. */
export function range(wait: IRange | null): string {
  if (wait === null || (wait.high === null && wait.low < 60)) {
    return 'nobody can say how long';
  }
  if (wait.high === null) {
    return `at least ${span(1000 * wait.low)}`;
  }
  if (wait.high < 60) {
    return 'less than a minute';
  }
  const [low, high] = [Math.floor(wait.low / 60), Math.ceil(wait.high / 60)];
  if (low === high) {
    return `about ${span(60_000 * high)}`;
  }
  return high < 60 ? `${low} – ${high} min` : `${low ? span(60_000 * low) : '0 min'} – ${span(60_000 * high)}`;
}

/** "20 GB for 2 h". */
export function wished(wish: IWish): string {
  const first: IChoice | undefined = wish.wants[0];
  const size = first ? said(first) : Math.round(wish.gib ?? 0);
  return `${size} GB for ${span(60_000 * wish.minutes)}`;
}

/** What happens when the wish is granted. */
export function whenGranted(wish: { on_grant: string; notebook: string | null }, hold: string): string {
  if (wish.on_grant === 'notebook') {
    return `run ${basename(wish.notebook ?? '')}`;
  }
  return wish.on_grant === 'kernel' ? 'start a kernel' : hold;
}

/** The last part of a path. */
export function basename(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** The lease as its owner knows it: "20 GB on A100-40GB". */
export function named(lease: ILease): string {
  return `${said(lease)} GB on ${lease.model}`;
}

const JUST_MS = 5000;
const FEW_NAMES = 6;
const SIGNALS: Record<ILease['signal'], string> = {
  gpu: "seen by the GPU's own counters",
  process: 'seen by its processes and memory',
  kernel: "seen by the kernel's state",
  person: 'as you said',
  none: 'nothing has been measured yet'
};

/** Busy or idle, since when, and how that is known. */
export function doing(lease: ILease, now: number): string {
  const idle = at(lease.idle_since);
  const what = Number.isNaN(idle) ? 'in use' : now - idle < JUST_MS ? 'idle just now' : `idle for ${span(now - idle)}`;
  return `${lease.signal === 'none' ? 'just started' : what} · ${SIGNALS[lease.signal]}`;
}

/** When the lease ends, as far as that is known, in ms. */
export function ends(lease: ILease): number {
  return at(lease.ends_at ?? lease.expires);
}

const CAUSES: Record<string, (when: string) => string> = {
  reclaimed: when => `Somebody waits for a slice and yours is idle: it is taken back at ${when}.`,
  term: when => `The lease ends at ${when}.`,
  drained: when => `This GPU is taken out of service: your slice ends at ${when}.`,
  released: () => 'You gave it back.'
};

/** Why it ends, and what happens before. */
export function notice(lease: ILease): string {
  const why = (CAUSES[lease.cause ?? 'term'] ?? CAUSES.term)(clock(ends(lease)));
  if (lease.server !== null) {
    return `${why} The server that holds it loses the GPU; files stay.`;
  }
  const next = lease.checkpoint
    ? 'Your checkpoint runs first, then your variables are saved as far as they can be.'
    : 'Before that your variables are saved as far as they can be; gpu.checkpoint(save, load) makes sure of what matters.';
  return `${why} ${next}`;
}

/** The same in the 140 characters that a notification of the Lab has. */
export function shortNotice(lease: ILease): string {
  const why = (CAUSES[lease.cause ?? 'term'] ?? CAUSES.term)(clock(ends(lease)));
  return lease.server === null ? `${why} It is saved first.` : why;
}

const OUTCOMES: Record<string, string> = {
  released: 'given back',
  reclaimed: 'taken back while idle, for somebody who waited',
  expired: 'the lease had run out',
  drained: 'the GPU was taken out of service',
  lapsed: 'nobody took it in time',
  failed: 'it could not be started',
  cancelled: 'cancelled'
};

/** How a lease ended; what failed says why in the words of where it failed. */
export function outcome(lease: ILease): string {
  const words = OUTCOMES[lease.outcome ?? ''] ?? 'it is over';
  return lease.outcome === 'failed' && lease.reason ? `${words}. ${lease.reason.replace(/\.$/, '')}` : words;
}

/** The first few names, and how many more there are. */
export function listed(names: readonly string[]): string {
  const rest = names.length - FEW_NAMES;
  return names.slice(0, FEW_NAMES).join(', ') + (rest > 0 ? ` and ${rest} more` : '');
}

/** What a GPU kernel of this pool will not see; said before anybody asks. */
export function sight(pool: IPool): string {
  if (pool.home === 'sync') {
    return 'A GPU kernel there sees a copy of its working folder only: copied there at the start, and back at each checkpoint. The rest of your home is not there.';
  }
  if (pool.home === 'none') {
    return 'A GPU kernel there sees no file of yours: read data over the network, and write results there too. Variables of other kernels are not there.';
  }
  return 'A GPU kernel sees your home. Variables of a kernel that runs already do not move to it.';
}

/** Every size that can be asked for, as people say them, small to large. */
export function sizes(offers: IOffers, pool: string): number[] {
  const shapes = usable(offers)
    .filter(one => !pool || one.name === pool)
    .flatMap(one => one.shapes)
    .filter(shape => shape.total > 0);
  return [...new Set(shapes.map(said))].sort((a, b) => a - b);
}

/** "14 × 5 GB, 8 × 10 GB": of the shapes of one size, the one that most of are free counts. */
export function freeSizes(pool: IPool): string {
  const most = new Map<number, number>();
  for (const shape of pool.shapes) {
    most.set(said(shape), Math.max(shape.free, most.get(said(shape)) ?? 0));
  }
  return [...most].map(([size, free]) => `${free} × ${size} GB`).join(', ');
}

/** Pools that the person may ask from. */
export function usable(offers: IOffers): IPool[] {
  return offers.pools.filter(pool => pool.available);
}

/** "cms holds 3 of 7 slots (eighths of a GPU)". */
export function allowance(offers: IOffers): string {
  return offers.allowances
    .map(one => {
      const most = one.max_slots === null ? '' : ` of at most ${many(one.max_slots, 'slot')}`;
      return `${one.group} holds ${most ? one.used_slots : many(one.used_slots, 'slot')}${most}`;
    })
    .join(', ');
}

/** The line beside the section's title. */
export function summary(leases: readonly ILease[], wishes: readonly IWish[], offers: IOffers | null, now: number): string {
  const ready = leases.filter(lease => lease.state === 'offered');
  const held = leases.filter(lease => lease.state === 'active' || lease.state === 'expiring');
  if (ready.length) {
    return `ready for you: ${span(ends(ready[0]) - now)} left`;
  }
  if (held.length) {
    const soonest = Math.min(...held.map(ends));
    return `${many(held.length, 'slice')} · ${Number.isNaN(soonest) ? 'no end yet' : `${span(soonest - now)} left`}`;
  }
  if (leases.length) {
    return leases[0].state === 'saving' || leases[0].state === 'ending' ? 'being saved' : 'starting';
  }
  if (wishes.length) {
    const [first] = wishes;
    return first.position ? `position ${first.position} in the queue` : 'in the queue';
  }
  const free = offers ? usable(offers).flatMap(pool => pool.shapes).filter(shape => shape.free > 0) : [];
  return free.length ? `up to ${Math.max(...free.map(said))} GB free` : offers?.pools.length ? 'all in use' : '';
}
