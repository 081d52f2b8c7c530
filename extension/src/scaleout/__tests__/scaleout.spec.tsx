import { ServerConnection } from '@jupyterlab/services';
import { fireEvent, render, screen } from '@testing-library/react';
import * as React from 'react';
import { beforeEach, expect, test, vi } from 'vitest';

import { Client } from '../../api/client';
import type { ICluster, IWorkers } from '../../api/types';
import { clientCode } from '../cell';
import { sentence } from '../ClusterCard';
import { ScaleoutModel } from '../model';
import { Scaleout } from '../Scaleout';
import { StatusItem } from '../status';

const GIB = 1024 ** 3;
const site = { name: 'here', kind: 'local', available: true, reason: '', free: 6, max_workers: 8 };
const worker = { name: 'w1', host: 'h', nthreads: 1, memory: GIB, memory_limit: 2 * GIB, cpu: 50, executing: 1, ready: 2, spilled: 0 };
const workers: IWorkers = { workers: [worker], totals: { ...worker, workers: 1 } };
const actions = { insert: vi.fn(), confirmStop: vi.fn(), openDashboard: vi.fn() };
vi.mock('@jupyterlab/notebook', () => ({ NotebookActions: {} })); // needs more of a browser than jsdom is
let form: { open: boolean; changed: never; set: (open: boolean) => void };
let clusters: ICluster[];
let sent: { method: string; path: string; body: unknown }[];
let refusal: string | null;
let model: ScaleoutModel;

function cluster(change: Partial<ICluster> = {}): ICluster {
  return {
    name: 'abcdef0123456789abcdef0123456789', site: 'here', environment: 'default', status: 'running', reason: '',
    workers: { wanted: 2, running: 2, starting: 0 }, adaptive: null, started: 0, idle_since: null, stops_at: null, dashboard: null, ...change
  };
}

beforeEach(() => {
  clusters = [];
  sent = [];
  refusal = null;
  Object.values(actions).forEach(action => action.mockReset());
  const signal = { connect: () => true, disconnect: () => true };
  form = { open: false, changed: signal as never, set: vi.fn() };
  vi.spyOn(ServerConnection, 'makeRequest').mockImplementation(async (url, init) => {
    const path = url.split('/specola/')[1];
    if (init.method && init.method !== 'GET') {
      sent.push({ method: init.method, path, body: init.body ? JSON.parse(String(init.body)) : null });
      if (refusal) {
        const problem = { title: 'Too many', status: 422, detail: refusal, request_id: 'r' };
        return new Response(JSON.stringify(problem), { status: 422, headers: { 'Content-Type': 'application/problem+json' } });
      }
      return new Response('{}');
    }
    const body = path.endsWith('sites') ? { items: [site] } : path.endsWith('workers') ? workers : { items: clusters };
    return new Response(JSON.stringify(body));
  });
  model = new ScaleoutModel(new Client(ServerConnection.makeSettings({ baseUrl: 'http://lab/user/anna/' })));
});

function draw(): void {
  render(<Scaleout model={model} actions={actions} form={form} visible={true} />);
}

test('without a cluster it says where workers may run, and offers one', async () => {
  draw();
  expect(await screen.findByText(/No cluster yet\. Site: here \(6 workers left for you\)/)).toBeTruthy();
  fireEvent.click(screen.getByRole('button', { name: 'New cluster' }));
  expect(form.set).toHaveBeenCalledWith(true);
});

test('the form asks for a site and workers, and closes when that was taken', async () => {
  form.open = true;
  draw();
  fireEvent.change(await screen.findByLabelText('Workers'), { target: { value: '4' } });
  fireEvent.click(screen.getByRole('button', { name: 'Create' }));
  await vi.waitFor(() => expect(form.set).toHaveBeenCalledWith(false));
  expect(sent).toEqual([{ method: 'POST', path: 'api/v1/scaleout/clusters', body: { site: 'here', workers: 4 } }]);
});

test('a refusal stays in the form, in the words of the facility', async () => {
  form.open = true;
  refusal = 'Your groups allow 8 workers.';
  draw();
  fireEvent.click(await screen.findByRole('button', { name: 'Create' }));
  expect((await screen.findByRole('alert')).textContent).toContain('Your groups allow 8 workers.');
  expect(form.set).not.toHaveBeenCalled();
  fireEvent.click(screen.getByRole('button', { name: 'Cancel' }));
  expect(form.set).toHaveBeenCalledWith(false);
});

test('a running cluster shows its workers live, and can be used', async () => {
  clusters = [cluster()];
  draw();
  expect(await screen.findByText('1.0 GiB of 2.0 GiB')).toBeTruthy();
  expect(screen.getByText(/50 % · 1 task/)).toBeTruthy();
  fireEvent.click(screen.getByRole('button', { name: 'Insert cell' }));
  expect(actions.insert.mock.calls[0][0].name).toBe(clusters[0].name);
  fireEvent.click(screen.getByRole('button', { name: 'Dashboard' }));
  expect(actions.openDashboard).toHaveBeenCalledWith(`http://lab/user/anna/specola/clusters/${clusters[0].name}/dashboard/status`);
});

test('the slider scales once it rests, the box makes it adaptive', async () => {
  clusters = [cluster()];
  draw();
  const slider = await screen.findByLabelText('Workers wanted');
  fireEvent.change(slider, { target: { value: '3' } });
  fireEvent.change(slider, { target: { value: '5' } });
  await vi.waitFor(() => expect(sent.map(one => one.body)).toEqual([{ workers: 5 }]), 2000);
  fireEvent.click(await screen.findByLabelText('Adaptive'));
  await vi.waitFor(() => expect(sent[1]?.body).toEqual({ minimum: 0, maximum: 2 }));
});

test('bounds of an adaptive cluster are kept in order', async () => {
  clusters = [cluster({ adaptive: { minimum: 1, maximum: 3 } })];
  draw();
  fireEvent.change(await screen.findByLabelText('from'), { target: { value: '9' } });
  fireEvent.change(screen.getByLabelText('to'), { target: { value: '6' } });
  await vi.waitFor(() => expect(sent.map(one => one.body)).toEqual([{ minimum: 1, maximum: 6 }]), 2000);
});

test('stop asks first', async () => {
  clusters = [cluster()];
  draw();
  actions.confirmStop.mockResolvedValueOnce(false).mockResolvedValueOnce(true);
  fireEvent.click(await screen.findByRole('button', { name: 'Stop cluster abcdef01' }));
  await vi.waitFor(() => expect(actions.confirmStop).toHaveBeenCalledOnce());
  expect(sent).toEqual([]);
  fireEvent.click(screen.getByRole('button', { name: 'Stop cluster abcdef01' }));
  await vi.waitFor(() => expect(sent.map(one => one.method)).toEqual(['DELETE']));
});

test('a refused change is shown on the card and can be dismissed', async () => {
  clusters = [cluster()];
  refusal = 'At most 8.';
  draw();
  fireEvent.click(await screen.findByLabelText('Adaptive'));
  expect((await screen.findByRole('alert')).textContent).toContain('At most 8.');
  fireEvent.click(screen.getByText('Dismiss'));
  expect(screen.queryByRole('alert')).toBeNull();
});

test('why a cluster is as it is', () => {
  const some = { wanted: 4, running: 1, starting: 2 };
  expect(sentence(cluster({ status: 'starting' }))).toBe('The scheduler is starting.');
  expect(sentence(cluster({ status: 'stopping' }))).toBe('Stopping…');
  expect(sentence(cluster({ workers: some }))).toBe('2 workers starting.');
  expect(sentence(cluster({ workers: { ...some, starting: 0 } }))).toBe('3 workers to come.');
  expect(sentence(cluster({ status: 'failed', reason: 'No memory left.' }))).toBe('No memory left.');
  expect(sentence(cluster({ idle_since: 1, stops_at: 2 }))).toMatch(/^Idle; stops at /);
});

test('the status bar counts workers and their memory, and is empty without a cluster', async () => {
  const { container, rerender } = render(<StatusItem model={model} open={vi.fn()} />);
  await vi.waitFor(() => expect(model.clusters.value).toEqual([]));
  expect(container.textContent).toBe('');
  clusters = [cluster()];
  await model.clusters.refresh();
  rerender(<StatusItem model={model} open={vi.fn()} />);
  expect(await screen.findByText('2 workers · 1.0 GiB')).toBeTruthy();
});

test('names are quoted in the inserted code', () => {
  expect(clientCode('a"b')).toContain('scaleout.connect("a\\"b")');
});
