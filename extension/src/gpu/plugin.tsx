import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { ILauncher } from '@jupyterlab/launcher';
import { INotebookTracker } from '@jupyterlab/notebook';
import { Signal } from '@lumino/signaling';
import * as React from 'react';

import { Client } from '../api/client';
import { RESYNC } from '../api/events';
import type { IEvents } from '../api/events';
import { IEventStream } from '../api/plugin';
import { IPanel } from '../panel/token';
import { addCommands, ASK, CATEGORY, confirmRelease, SECTION } from './commands';
import { Gpu } from './Gpu';
import type { IActions } from './LeaseCard';
import { GpuModel, IGpus } from './model';
import { GPU_KERNEL, restoreInto, useLease, usedBy } from './notebook';
import { summary } from './words';

function actionsIn(app: JupyterFrontEnd, notebooks: INotebookTracker | null, model: GpuModel): IActions {
  return {
    notebook: () => notebooks?.currentWidget?.context.localPath ?? null,
    onGpu: () => notebooks?.currentWidget?.sessionContext.session?.kernel?.name === GPU_KERNEL,
    usedBy: kernel => usedBy(app, kernel),
    use: async (lease, fresh) => {
      if (notebooks) {
        await useLease(app, notebooks, model, lease, fresh);
      }
    },
    confirmRelease,
    restore: async lease => {
      if (notebooks?.currentWidget) {
        await restoreInto(notebooks.currentWidget, lease);
      }
    }
  };
}

function listen(events: IEvents | null, model: GpuModel): void {
  events?.on('gpu.request', () => void model.wishes.refresh());
  events?.on('gpu.offers', () => void model.offers.refresh());
  events?.on('gpu.lease', () => void Promise.all([model.leases.refresh(), model.wishes.refresh()]));
  events?.on(RESYNC, () => void model.reread());
}

/** GPUs in the panel, and the commands for them. */
export const gpuPlugin: JupyterFrontEndPlugin<GpuModel> = {
  id: '@specola/lab:gpu',
  description: 'The section of the panel with the GPUs: what is free, what you hold and wait for; and the commands for them.',
  autoStart: true,
  provides: IGpus,
  optional: [IPanel, IEventStream, INotebookTracker, ICommandPalette, ILauncher],
  activate: (
    app: JupyterFrontEnd,
    panel: IPanel | null,
    events: IEvents | null,
    notebooks: INotebookTracker | null,
    palette: ICommandPalette | null,
    launcher: ILauncher | null
  ): GpuModel => {
    const model = new GpuModel(new Client(app.serviceManager.serverSettings));
    const actions = actionsIn(app, notebooks, model);
    const stage = { changed: new Signal<object, void>(model), asked: new Signal<object, void>(model) };
    notebooks?.currentChanged.connect(() => stage.changed.emit());
    app.serviceManager.sessions.runningChanged.connect(() => stage.changed.emit());
    addCommands({ app, panel, palette, model, actions, openForm: () => requestAnimationFrame(() => stage.asked.emit()) });
    listen(events, model);
    launcher?.add({ command: ASK, category: CATEGORY, rank: 1, args: { isLauncher: true } });
    panel?.add({
      id: SECTION,
      title: 'GPU',
      rank: 20,
      summary: () => summary(model.held, model.queued, model.offers.value, Date.now()),
      changed: model.changed,
      body: ({ visible }) => <Gpu model={model} actions={actions} stage={stage} visible={visible} />
    });
    return model;
  }
};
