import { expect, test } from 'vitest';

import { doing, freeSizes, notice, range, said, sight, summary, whenGranted, wished } from '../words';
import { lease, offers, pool, wish } from './made';

const NOW = Date.parse('2026-11-21T15:00:00Z');

test('sizes are said as people say them', () => {
  expect(said({ profile: '3g.20gb', gib: 19.5 })).toBe(20);
  expect(said({ profile: 'A100-40GB', gib: 39.25 })).toBe(40);
  expect(said({ profile: 'something', gib: 39.4 })).toBe(39);
  expect(freeSizes(pool())).toBe('7 × 5 GB, 2 × 20 GB, 0 × 40 GB');
});

test('a wait is a range, and says so when nobody knows', () => {
  expect(range({ low: 240, high: 1140 })).toBe('4 – 19 min');
  expect(range({ low: 0, high: 50 })).toBe('less than a minute');
  expect(range({ low: 60, high: 60 })).toBe('about 1 min');
  expect(range({ low: 0, high: 5400 })).toBe('0 min – 1 h 30 min');
  expect(range({ low: 240, high: null })).toBe('at least 4 min');
  expect(range({ low: 0, high: null })).toBe('nobody can say how long');
  expect(range(null)).toBe('nobody can say how long');
});

test('a wish in a few words', () => {
  expect(wished(wish())).toBe('20 GB for 2 h');
  expect(wished(wish({ wants: [], gib: 16 }))).toBe('16 GB for 2 h');
  expect(whenGranted(wish(), 'hold it')).toBe('hold it');
  expect(whenGranted(wish({ on_grant: 'kernel' }), 'hold it')).toBe('start a kernel');
  expect(whenGranted(wish({ on_grant: 'notebook', notebook: 'deep/train.ipynb' }), '')).toBe('run train.ipynb');
});

test('busy or idle is said with how it is known', () => {
  expect(doing(lease(), NOW)).toBe("in use · seen by the GPU's own counters");
  const idle = new Date(NOW - 9 * 60_000).toISOString();
  expect(doing(lease({ idle_since: idle, signal: 'kernel' }), NOW)).toBe("idle for 9 min · seen by the kernel's state");
  expect(doing(lease({ signal: 'none' }), NOW)).toBe('just started · nothing has been measured yet');
});

test('a notice says why, when and what happens next', () => {
  const ending = { state: 'expiring', ends_at: '2026-11-21T15:02:00Z' } as const;
  expect(notice(lease({ ...ending, cause: 'reclaimed' }))).toMatch(/Somebody waits .* taken back at .*02\. Your checkpoint runs first/);
  expect(notice(lease({ ...ending, cause: 'term', checkpoint: false }))).toMatch(/^The lease ends at .* gpu\.checkpoint/);
  expect(notice(lease({ ...ending, cause: 'drained', server: '' }))).toMatch(/out of service.*loses the GPU; files stay/);
  expect(notice(lease({ ...ending, cause: 'released' }))).toMatch(/^You gave it back\./);
  expect(notice(lease({ ...ending, cause: 'something new' }))).toMatch(/^The lease ends at/);
});

test('what a GPU kernel does not see depends on the pool', () => {
  expect(sight(pool())).toMatch(/sees your home/);
  expect(sight(pool({ home: 'none' }))).toMatch(/no file of yours/);
  expect(sight(pool({ home: 'sync' }))).toMatch(/copy of its working folder only/);
});

test('one line of state, the most urgent first', () => {
  const until = new Date(NOW + 42 * 60_000).toISOString();
  expect(summary([lease({ expires: until })], [], null, NOW)).toBe('1 slice · 42 min left');
  expect(summary([lease({ expires: null })], [], null, NOW)).toBe('1 slice · no end yet');
  expect(summary([lease({ state: 'offered', ends_at: until })], [], null, NOW)).toBe('ready for you: 42 min left');
  expect(summary([lease({ state: 'starting' })], [], null, NOW)).toBe('starting');
  expect(summary([lease({ state: 'saving' })], [], null, NOW)).toBe('being saved');
  expect(summary([], [wish({ position: 3 })], null, NOW)).toBe('position 3 in the queue');
  expect(summary([], [wish({ position: null })], null, NOW)).toBe('in the queue');
  expect(summary([], [], offers(), NOW)).toBe('up to 20 GB free');
  expect(summary([], [], offers({ pools: [pool({ shapes: [] })] }), NOW)).toBe('all in use');
  expect(summary([], [], null, NOW)).toBe('');
});
