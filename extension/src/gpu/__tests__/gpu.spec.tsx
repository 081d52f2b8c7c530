import { ServerConnection } from '@jupyterlab/services';
import { Signal } from '@lumino/signaling';
import { act, fireEvent, render, screen } from '@testing-library/react';
import * as React from 'react';
import { beforeEach, expect, test, vi } from 'vitest';

import { Client } from '../../api/client';
import type { ILease, IOffers, IWish } from '../../api/types';
import { durations } from '../Ask';
import { Gpu } from '../Gpu';
import { describeGpu } from '../GpuMap';
import { GpuModel } from '../model';
import type { ISnapshot } from '../model';
import { statusText, GpuStatus } from '../status';
import { choice, gpu, lease, offers, part, pool, wish } from './made';

vi.mock('@jupyterlab/notebook', () => ({ NotebookActions: {} })); // needs more of a browser than jsdom is
const actions = { notebook: vi.fn(), onGpu: vi.fn(), usedBy: vi.fn(), use: vi.fn(), confirmRelease: vi.fn(), restore: vi.fn() };
let found: { offers: IOffers; wishes: IWish[]; leases: ILease[]; snapshots: ISnapshot[] };
let sent: { method: string; path: string; body: unknown }[];
let refusal: string | null;
let model: GpuModel;
let stage: { changed: Signal<object, void>; asked: Signal<object, void> };

function later(minutes: number): string {
  return new Date(Date.now() + 60_000 * minutes).toISOString();
}

function problem(detail: string, status: number): Response {
  const text = JSON.stringify({ title: 'No', status, detail, request_id: 'r' });
  return new Response(text, { status, headers: { 'Content-Type': 'application/problem+json' } });
}

function answer(path: string): unknown {
  if (path.startsWith('api/v1/gpu/advice')) {
    return { choice: choice({ free: 0 }), alternatives: [choice(), choice({ shape: '4g', text: 'a 4g would do' })], text: `for ${path.split('?')[1]}` };
  }
  const items = { 'api/v1/gpu/requests': found.wishes, 'api/v1/gpu/leases': found.leases, 'gpu/snapshots': found.snapshots }[path];
  return items ? { items } : found.offers;
}

beforeEach(() => {
  found = { offers: offers(), wishes: [], leases: [], snapshots: [] };
  sent = [];
  refusal = null;
  localStorage.clear();
  Object.values(actions).forEach(action => action.mockReset());
  actions.notebook.mockReturnValue(null);
  actions.usedBy.mockReturnValue(null);
  actions.use.mockResolvedValue(undefined);
  actions.restore.mockResolvedValue(undefined);
  vi.spyOn(ServerConnection, 'makeRequest').mockImplementation(async (url, init) => {
    const path = url.split('/specola/')[1];
    if (init.method && init.method !== 'GET') {
      sent.push({ method: init.method, path, body: init.body ? JSON.parse(String(init.body)) : null });
      return refusal ? problem(refusal, 422) : new Response('{}');
    }
    return new Response(JSON.stringify(answer(path)));
  });
  model = new GpuModel(new Client(ServerConnection.makeSettings({ baseUrl: 'http://lab/user/anna/' })));
  stage = { changed: new Signal({}), asked: new Signal({}) };
});

function draw(): void {
  render(<Gpu model={model} actions={actions} stage={stage} visible={true} />);
}

test('a facility without GPUs says so, and so does one that knows nothing of them', async () => {
  found.offers = offers({ pools: [] });
  draw();
  expect(await screen.findByText('This facility offers no GPU.')).toBeTruthy();
  vi.mocked(ServerConnection.makeRequest).mockImplementation(async () => problem('', 404));
  await act(() => model.offers.refresh());
  expect(screen.getByText('This facility offers no GPU.')).toBeTruthy();
});

test('a GPU is described in words', () => {
  const parts = [part({ size: 4, shape: '3g', state: 'idle', mine: true }), part({ start: 4, size: 4, shape: '3g', state: 'idle' })];
  expect(describeGpu(pool(), gpu({ parts }))).toBe('GPU 0: yours, idle (20 GB), held, but idle (20 GB)');
  const away = gpu({ index: 3, drained: true, healthy: false, reason: 'fan', parts: [part({ size: 8, state: 'other' })] });
  expect(describeGpu(pool(), away)).toBe('GPU 3: drained, not healthy, fan, used by something else');
  expect(describeGpu(pool(), gpu({ parts: [part({ size: 4, state: 'busy' }), part({ start: 4, size: 4 })] }))).toBe('GPU 0: in use, free (4 of it)');
});

test('the form asks as the API has it, and advice follows the slider', async () => {
  found.offers = offers({ pools: [pool(), pool({ name: 'hpc', home: 'none', gpus: [], simulated: false })] });
  actions.notebook.mockReturnValue('deep/train.ipynb');
  draw();
  const slider = await screen.findByLabelText('I need');
  fireEvent.change(slider, { target: { value: '1' } });
  expect(await screen.findByText('for gib=20&minutes=60')).toBeTruthy();
  fireEvent.change(screen.getByLabelText('for'), { target: { value: '120' } });
  fireEvent.change(screen.getByLabelText('on'), { target: { value: 'hpc' } });
  expect(screen.getByText(/sees no file of yours/)).toBeTruthy();
  expect(await screen.findByText('for gib=20&minutes=120&pool=hpc')).toBeTruthy();
  fireEvent.click(screen.getByLabelText('a 4g would do'));
  fireEvent.change(screen.getByLabelText('when granted'), { target: { value: 'notebook' } });
  fireEvent.click(screen.getByRole('button', { name: 'Ask' }));
  await vi.waitFor(() => expect(sent).toHaveLength(1));
  const asked = { gib: 20, minutes: 120, on_grant: 'notebook', notebook: 'deep/train.ipynb', pool: 'hpc', alternatives: ['4g'] };
  expect(sent[0]).toEqual({ method: 'POST', path: 'api/v1/gpu/requests', body: asked });
});

test('of two groups one may be chosen, and a refusal stays in the form', async () => {
  const more = { group: 'ml', used_slots: 1, max_slots: null, guaranteed_slots: 0, longest_minutes: 90 };
  found.offers = offers({ allowances: [...found.offers.allowances, more] });
  refusal = 'Your group has its seven slots in use.';
  draw();
  fireEvent.change(await screen.findByLabelText('for group'), { target: { value: 'ml' } });
  fireEvent.click(screen.getByRole('button', { name: 'Ask' }));
  expect((await screen.findByRole('alert')).textContent).toContain(refusal);
  expect(sent[0].body).toMatchObject({ group: 'ml' });
  fireEvent.click(screen.getByText('Dismiss'));
  expect(screen.queryByRole('alert')).toBeNull();
  expect(screen.getByText(/cms holds 4 of at most 7 slots, ml holds 1 slot/)).toBeTruthy();
});

test('durations end where the groups end', () => {
  expect(durations(offers())).toEqual([15, 30, 60, 120, 240, 480]);
  expect(durations(offers({ allowances: [] }))).toContain(1440);
});

test('pools that are closed to the person say why', async () => {
  found.offers = offers({ pools: [pool({ available: false, reason: 'It is open to: ml.' })] });
  draw();
  expect(await screen.findByText('It is open to: ml.')).toBeTruthy();
  expect(screen.getByText('None of these GPUs is for your groups.')).toBeTruthy();
});

test('a wish in the queue has a place, a range and a way out', async () => {
  found.wishes = [wish(), wish({ id: 'w2', position: null, server: true, wait: null })];
  found.offers = offers({ pools: [pool({ queued: 2 })] });
  draw();
  expect(await screen.findByText('position 1 of 2')).toBeTruthy();
  expect(screen.getByText('4 – 19 min')).toBeTruthy();
  expect(screen.getByText('hold it 15 min')).toBeTruthy();
  expect(screen.getByText('start the server')).toBeTruthy();
  fireEvent.click(screen.getAllByRole('button', { name: 'Cancel the request for 20 GB for 2 h' })[0]);
  await vi.waitFor(() => expect(sent).toEqual([{ method: 'DELETE', path: 'api/v1/gpu/requests/w1', body: null }]));
});

test('a slice that waits can be used here, in a new notebook, or given back', async () => {
  found.leases = [lease({ state: 'offered', kernel: null, active: null, expires: null, ends_at: later(14) })];
  actions.notebook.mockReturnValue('deep/train.ipynb');
  actions.confirmRelease.mockResolvedValue(true);
  draw();
  expect(await screen.findByText(/It is yours: held until/)).toBeTruthy();
  fireEvent.click(screen.getByRole('button', { name: 'Use it in train.ipynb' }));
  fireEvent.click(screen.getByRole('button', { name: 'New GPU notebook' }));
  expect(actions.use.mock.calls.map(call => call[1])).toEqual([false, true]);
  fireEvent.click(screen.getByRole('button', { name: 'Give back 20 GB on A100-40GB' }));
  await vi.waitFor(() => expect(sent).toEqual([{ method: 'DELETE', path: 'api/v1/gpu/leases/l1?token=3', body: null }]));
});

test('a slice at work is renewed by as much as was asked for', async () => {
  const moments = [0.5, null, 0.9].map(engine => ({ at: later(-1), engine, memory: 1024 ** 3 }));
  found.leases = [lease({ active: later(-10), expires: later(20), longest: later(600), activity: moments })];
  found.wishes = [wish({ id: 'w0', state: 'served', minutes: 45 })];
  actions.usedBy.mockReturnValue('deep/train.ipynb');
  draw();
  expect(await screen.findByText('in train.ipynb · A100-40GB · simulated')).toBeTruthy();
  expect(screen.getByText('90 %')).toBeTruthy();
  fireEvent.click(screen.getByRole('button', { name: 'Renew 20 GB on A100-40GB' }));
  await vi.waitFor(() => expect(sent[0]?.body).toEqual({ token: 3, minutes: 45 }));
});

test('at the longest lease there is nothing to renew', async () => {
  found.leases = [lease({ expires: later(20), longest: later(20) })];
  found.leases[0].longest = found.leases[0].expires;
  draw();
  const button = (await screen.findByRole('button', { name: 'Renew 20 GB on A100-40GB' })) as HTMLButtonElement;
  expect(button.disabled).toBe(true);
});

test('an idle slice that is taken back can be kept by a word', async () => {
  found.leases = [lease({ state: 'expiring', cause: 'reclaimed', expires: later(60), ends_at: later(2) })];
  draw();
  fireEvent.click(await screen.findByText('Keep it'));
  await vi.waitFor(() => expect(sent[0]?.body).toEqual({ token: 3, minutes: 1 }));
});

test('what a site says while it starts, and what happens at the end', async () => {
  const server = { kernel: null, server: 'gpu' };
  found.leases = [lease({ state: 'starting', reason: 'Slurm: (Priority)', ...server }), lease({ id: 'l2', state: 'saving' })];
  draw();
  expect(await screen.findByText('Slurm: (Priority)')).toBeTruthy();
  expect(screen.getByText(/held by your server gpu/)).toBeTruthy();
  expect(screen.getByText(/Being saved: your checkpoint/)).toBeTruthy();
});

test('what ended says why, offers what was saved, and asks again with one click', async () => {
  const saved = { at: later(-1), names: ['a', 'b', 'c', 'd', 'e', 'f', 'g'], failed: [{ name: 'f', why: 'cannot' }], hooks: 2, size: 2048 };
  found.leases = [lease({ state: 'ended', outcome: 'reclaimed', ends_at: later(-1), saved })];
  found.snapshots = [{ name: 'l1', created: 1, names: saved.names }];
  draw();
  expect(await screen.findByText(/taken back while idle/)).toBeTruthy();
  expect(screen.getByText(/2 checkpoints run, 2.0 KiB\): a, b, c, d, e, f and 1 more\./)).toBeTruthy();
  expect(await screen.findByText('Your next GPU kernel can restore it.')).toBeTruthy();
  fireEvent.click(screen.getByRole('button', { name: 'Ask again' }));
  await vi.waitFor(() => expect(sent[0]?.body).toEqual({ shape: '3g', on_grant: 'hold', minutes: 120, group: 'cms' }));
  await vi.waitFor(() => expect(screen.queryByText(/taken back while idle/)).toBeNull());
});

test('the next GPU kernel is offered what was saved of the last, until it has it', async () => {
  found.leases = [lease({ expires: later(60) })];
  found.snapshots = [{ name: 'l0', created: Date.now() / 1000, names: ['model'] }];
  draw();
  const restore = (await screen.findByRole('button', { name: 'Restore' })) as HTMLButtonElement;
  expect(restore.disabled).toBe(true);
  actions.onGpu.mockReturnValue(true);
  act(() => stage.changed.emit());
  fireEvent.click(screen.getByRole('button', { name: 'Restore' }));
  await vi.waitFor(() => expect(screen.queryByText(/Your last GPU kernel was saved/)).toBeNull());
  expect(actions.restore).toHaveBeenCalledWith('l0');
  expect(new GpuModel(new Client(ServerConnection.makeSettings())).isDismissed('saved l0')).toBe(true);
});

test('the form begins with what was asked for last', async () => {
  found.wishes = [wish({ state: 'cancelled' })];
  await model.reread();
  draw();
  expect((await screen.findByLabelText('I need')).getAttribute('aria-valuetext')).toBe('20 GB of GPU memory');
  expect((screen.getByLabelText('for') as HTMLSelectElement).value).toBe('120');
});

test('a wish that failed says why until it is dismissed', async () => {
  found.wishes = [wish({ state: 'failed', reason: 'The GPU broke.' })];
  draw();
  expect(await screen.findByText(/could not be had\. The GPU broke\./)).toBeTruthy();
  fireEvent.click(screen.getByText('Dismiss'));
  expect(screen.queryByText(/The GPU broke/)).toBeNull();
});

test('the form is behind a button while there is something else, and a command opens it', async () => {
  found.wishes = [wish()];
  draw();
  expect(await screen.findByRole('button', { name: 'Ask for another' })).toBeTruthy();
  act(() => stage.asked.emit());
  await vi.waitFor(() => expect(document.activeElement).toBe(screen.getByLabelText('I need')));
});

test('the status bar has the time that is left, or the place in the queue', async () => {
  const { container } = render(<GpuStatus model={model} open={vi.fn()} />);
  await vi.waitFor(() => expect(model.wishes.value).toEqual([]));
  expect(container.textContent).toBe('');
  found.wishes = [wish({ position: 2 })];
  await act(() => model.reread());
  expect(container.textContent).toBe('GPU: position 2');
  found.leases = [lease({ expires: later(42) })];
  await act(() => model.reread());
  expect(container.textContent).toBe('GPU 20 GB (simulated) · 42 min');
  found.leases = [lease({ state: 'offered', ends_at: later(14), simulated: false })];
  await act(() => model.reread());
  expect(statusText(model, Date.now())).toBe('GPU 20 GB · ready, 14 min');
  found.leases = [lease({ state: 'starting', expires: null })];
  await act(() => model.reread());
  expect(statusText(model, Date.now())).toContain('starting');
});
