import { Notification } from '@jupyterlab/apputils';
import { ServerConnection } from '@jupyterlab/services';
import { CommandRegistry } from '@lumino/commands';
import { Signal } from '@lumino/signaling';
import { beforeEach, expect, test, vi } from 'vitest';

import type { ILease } from '../../api/types';
import { ASK, RELEASE, RENEW, RESTORE, USE } from '../commands';
import type { GpuModel } from '../model';
import { GPU_KERNEL, restoreCode, useLease, usedBy } from '../notebook';
import { gpuNoticesPlugin } from '../notices';
import { gpuPlugin } from '../plugin';
import { gpuStatusPlugin } from '../status';
import { lease } from './made';

vi.mock('@jupyterlab/notebook', () => ({ NotebookActions: {}, INotebookTracker: {} })); // needs more of a browser than jsdom is
let leases: ILease[];
let sent: string[];
const owner = {};

function app(): any {
  return {
    commands: new CommandRegistry(),
    shell: { activateById: vi.fn() },
    serviceManager: {
      serverSettings: ServerConnection.makeSettings({ baseUrl: 'http://lab/' }),
      sessions: { running: () => [{ path: 'a/b.ipynb', kernel: { id: 'k1' } }][Symbol.iterator](), runningChanged: new Signal(owner) }
    }
  };
}

function tracker(path: string | null): any {
  const sessionContext = { changeKernel: vi.fn().mockResolvedValue(undefined) };
  return {
    currentChanged: new Signal(owner),
    currentWidget: path === null ? null : { id: 'n1', context: { localPath: path }, sessionContext }
  };
}

beforeEach(() => {
  leases = [];
  sent = [];
  vi.spyOn(ServerConnection, 'makeRequest').mockImplementation(async (url, init) => {
    sent.push(`${init.method ?? 'GET'} ${url.split('/specola/')[1]}`);
    return new Response(JSON.stringify({ items: leases }));
  });
});

async function activate(lab: any, ...given: unknown[]): Promise<GpuModel> {
  return (await gpuPlugin.activate(lab, ...(given as []))) as GpuModel;
}

test('it needs nothing of the others, and without a panel there are still commands', async () => {
  const lab = app();
  const model = await activate(lab, null, null, null, null, null);
  await lab.commands.execute(ASK);
  expect(lab.commands.isEnabled(USE)).toBe(false);
  gpuStatusPlugin.activate(lab, model, null);
  gpuNoticesPlugin.activate(lab, model);
  expect([gpuPlugin, gpuStatusPlugin, gpuNoticesPlugin].flatMap(one => one.requires ?? [])).toHaveLength(2);
});

test('the panel gets a section, the palette and the launcher get the commands', async () => {
  const [panel, palette, launcher] = [{ add: vi.fn(), show: vi.fn() }, { addItem: vi.fn() }, { add: vi.fn() }];
  const lab = app();
  const events = { on: vi.fn() };
  await activate(lab, panel, events, tracker(null), palette, launcher);
  expect(panel.add.mock.calls[0][0]).toMatchObject({ id: 'gpu', title: 'GPU' });
  expect(palette.addItem.mock.calls.map(call => call[0].command)).toEqual([ASK, USE, RENEW, RELEASE, RESTORE]);
  expect(launcher.add.mock.calls[0][0].command).toBe(ASK);
  await lab.commands.execute(ASK);
  expect(panel.show).toHaveBeenCalledWith('gpu');
  events.on.mock.calls.forEach(([, tell]) => tell({}));
  await vi.waitFor(() => expect(new Set(sent)).toEqual(new Set(['GET api/v1/gpu/requests', 'GET api/v1/gpu/leases', 'GET api/v1/gpu/offers'])));
});

test('commands act on the lease that they can act on', async () => {
  const lab = app();
  const notebooks = tracker('train.ipynb');
  const model = await activate(lab, null, null, notebooks, null, null);
  leases = [lease({ kernel: 'k9' })];
  await model.leases.refresh();
  await lab.commands.execute(USE);
  expect(notebooks.currentWidget.sessionContext.changeKernel).toHaveBeenCalledWith({ id: 'k9' });
  await lab.commands.execute(RENEW);
  expect(sent).toContain('POST api/v1/gpu/leases/l1/renew');
  expect(lab.commands.isEnabled(RESTORE)).toBe(false);
  leases = [lease({ state: 'offered', active: null })];
  await model.leases.refresh();
  expect(lab.commands.isEnabled(RENEW)).toBe(false);
  await lab.commands.execute(RELEASE);
  expect(sent).toContain('DELETE api/v1/gpu/leases/l1?token=3');
});

test('what a command was refused is told', async () => {
  const lab = app();
  const model = await activate(lab, null, null, null, null, null);
  leases = [lease()];
  await model.leases.refresh();
  const told = vi.spyOn(Notification, 'error').mockReturnValue('');
  vi.mocked(ServerConnection.makeRequest).mockRejectedValue(new Error('cut'));
  await lab.commands.execute(RENEW);
  expect(told).toHaveBeenCalledWith('Your server does not answer', { autoClose: false });
});

test('a kernel that runs is used, else one is started; a new notebook when none is in front', async () => {
  const lab = app();
  const model = await activate(lab, null, null, null, null, null);
  const notebooks = tracker('train.ipynb');
  await useLease(lab, notebooks, model, lease({ kernel: null, state: 'offered' }), false);
  expect(notebooks.currentWidget.sessionContext.changeKernel).toHaveBeenCalledWith({ name: GPU_KERNEL });
  const made = vi.fn();
  lab.commands.addCommand('notebook:create-new', { execute: made });
  await useLease(lab, tracker(null), model, lease({ kernel: 'k2' }), false);
  await useLease(lab, notebooks, model, lease({ kernel: null }), true);
  expect(made.mock.calls.map(call => call[0])).toEqual([
    { activate: true, kernelId: 'k2' },
    { activate: true, kernelName: GPU_KERNEL }
  ]);
  expect(usedBy(lab, 'k1')).toBe('a/b.ipynb');
  expect(usedBy(lab, 'k2')).toBeNull();
  expect(restoreCode('l"1')).toContain('gpu.restore("l\\"1")');
});
