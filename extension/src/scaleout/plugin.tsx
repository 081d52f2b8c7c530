import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { INotebookTracker } from '@jupyterlab/notebook';
import { Signal } from '@lumino/signaling';
import * as React from 'react';

import { Client } from '../api/client';
import { RESYNC } from '../api/events';
import type { IEvents } from '../api/events';
import { IEventStream } from '../api/plugin';
import { IPanel } from '../panel/token';
import { addCommands, confirmStop, INSERT_CELL, SECTION } from './commands';
import { IScaleout, ScaleoutModel } from './model';
import { Scaleout } from './Scaleout';
import type { IForm } from './Scaleout';

function newForm(): IForm {
  const owner = {};
  const changed = new Signal<object, boolean>(owner);
  const form: IForm = {
    open: false,
    changed,
    set: open => {
      form.open = open;
      changed.emit(open);
    }
  };
  return form;
}

function summary(model: ScaleoutModel): string {
  const { alive } = model;
  if (!alive.length) {
    return '';
  }
  const running = alive.reduce((sum, cluster) => sum + cluster.workers.running, 0);
  const wanted = alive.reduce((sum, cluster) => sum + cluster.workers.wanted, 0);
  return `${running} of ${wanted} workers`;
}

/** Dask clusters in the panel, and the commands for them. */
export const scaleoutPlugin: JupyterFrontEndPlugin<ScaleoutModel> = {
  id: '@specola/lab:scaleout',
  description: 'The section of the panel with your Dask clusters, and the commands for them.',
  autoStart: true,
  provides: IScaleout,
  optional: [IPanel, IEventStream, INotebookTracker, ICommandPalette],
  activate: (
    app: JupyterFrontEnd,
    panel: IPanel | null,
    events: IEvents | null,
    notebooks: INotebookTracker | null,
    palette: ICommandPalette | null
  ): ScaleoutModel => {
    const model = new ScaleoutModel(new Client(app.serviceManager.serverSettings));
    const form = newForm();
    addCommands({ app, panel, notebooks, palette, model, form });
    events?.on('scaleout.cluster', () => void model.clusters.refresh());
    events?.on(RESYNC, () => void model.clusters.refresh());
    const actions = {
      insert: (cluster: { name: string }): void => void app.commands.execute(INSERT_CELL, { cluster: cluster.name }),
      confirmStop,
      openDashboard: (url: string): void => void window.open(url, '_blank', 'noopener')
    };
    panel?.add({
      id: SECTION,
      title: 'Scale-out',
      rank: 30,
      summary: () => summary(model),
      changed: model.clusters.changed,
      body: ({ visible }) => <Scaleout model={model} actions={actions} form={form} visible={visible} />
    });
    return model;
  }
};
