import { Notification } from '@jupyterlab/apputils';
import { ServerConnection } from '@jupyterlab/services';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { Client } from '../../api/client';
import type { ILease } from '../../api/types';
import { GpuModel } from '../model';
import { Notices, topic } from '../notices';
import { lease } from './made';

const NOW = Date.parse('2026-11-21T15:00:00Z');
let leases: ILease[];
let model: GpuModel;
let notices: Notices;
const deeds = { renew: vi.fn(), open: vi.fn() };

function later(minutes: number): string {
  return new Date(NOW + 60_000 * minutes).toISOString();
}

beforeEach(() => {
  vi.useFakeTimers({ now: NOW });
  leases = [];
  vi.spyOn(ServerConnection, 'makeRequest').mockImplementation(async () => new Response(JSON.stringify({ items: leases })));
  for (const kind of ['info', 'warning'] as const) {
    vi.spyOn(Notification, kind).mockReturnValue(kind);
  }
  vi.spyOn(Notification, 'dismiss').mockReturnValue(undefined);
  model = new GpuModel(new Client(ServerConnection.makeSettings({ baseUrl: 'http://lab/' })));
  notices = new Notices(model, deeds);
});

afterEach(() => {
  notices.dispose();
  vi.useRealTimers();
});

async function become(...change: Partial<ILease>[]): Promise<void> {
  leases = change.map(one => lease(one));
  await model.leases.refresh();
}

function said(): string[] {
  const both = [...vi.mocked(Notification.info).mock.calls, ...vi.mocked(Notification.warning).mock.calls];
  return both.map(call => call[0]);
}

test('ten and two minutes before the end, once each, and not again after a renewal', async () => {
  await become({ active: later(-60), expires: later(11) });
  expect(said()).toEqual([]);
  vi.advanceTimersByTime(2 * 60_000);
  expect(said()).toEqual([expect.stringMatching(/ends in 10 min/)]);
  vi.advanceTimersByTime(7 * 60_000 + 6000);
  expect(said()[1]).toMatch(/ends in 2 min/);
  expect(Notification.dismiss).toHaveBeenCalledTimes(1);
  const options = vi.mocked(Notification.warning).mock.calls[1][1];
  options?.actions?.[0].callback({} as never);
  expect(deeds.renew).toHaveBeenCalledOnce();
  await become({ active: later(-60), expires: later(120) });
  expect(Notification.dismiss).toHaveBeenCalledTimes(2);
  expect(said()).toHaveLength(2);
});

test('a lease shorter than ten minutes is not warned of at its beginning', () => {
  expect(topic(lease({ active: later(0), expires: later(8) }), NOW)).toBe('');
  expect(topic(lease({ active: later(-7), expires: later(1) }), NOW)).toMatch(/^ends .* 120000$/);
});

test('a slice that is there, one that is taken back, and one that is gone', async () => {
  await become({ state: 'offered', ends_at: later(15) });
  expect(said()).toEqual([expect.stringMatching(/Your GPU is there: 20 GB on A100-40GB/)]);
  await become({ state: 'expiring', cause: 'reclaimed', ends_at: later(2) });
  expect(said()[1]).toMatch(/Somebody waits/);
  const keep = vi.mocked(Notification.warning).mock.calls[0][1]?.actions?.[0];
  expect(keep?.label).toBe('Keep it');
  const saved = { at: later(0), names: ['model'], failed: [], hooks: 1, size: 10 };
  await become({ state: 'ended', outcome: 'reclaimed', saved });
  expect(said()[2]).toMatch(/is gone: taken back while idle.* 1 variable saved\./);
});

test('what had ended before the page was opened is no news, and nor is what its person did', async () => {
  await become({ state: 'ended', outcome: 'expired' }, { id: 'l2', state: 'expiring', cause: 'released', ends_at: later(1) });
  await become({ state: 'ended', outcome: 'expired' }, { id: 'l2', state: 'ended', outcome: 'released' });
  expect(said()).toEqual([]);
  expect(topic(lease({ state: 'starting' }), NOW)).toBe('');
  expect(topic(lease({ state: 'offered', on_grant: 'kernel' }), NOW)).toBe('');
});

test('a drained GPU is said, with nothing to keep', async () => {
  await become({ state: 'expiring', cause: 'drained', ends_at: later(2) });
  expect(said()[0]).toMatch(/out of service/);
  expect(vi.mocked(Notification.warning).mock.calls[0][1]?.actions?.map(one => one.label)).toEqual(['Show']);
});
