import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Dialog, showDialog } from '@jupyterlab/apputils';
import type { ICommandPalette } from '@jupyterlab/apputils';
import type { INotebookTracker } from '@jupyterlab/notebook';

import type { ICluster } from '../api/types';
import type { IPanel } from '../panel/token';
import { clusterIcon } from '../ui/icons';
import { many } from '../ui/format';
import { insertCell } from './cell';
import { shortName } from './ClusterCard';
import type { ScaleoutModel } from './model';
import type { IForm } from './Scaleout';

export const NEW_CLUSTER = 'specola:new-cluster';
export const INSERT_CELL = 'specola:insert-cluster-cell';
export const STOP_CLUSTER = 'specola:stop-cluster';
export const CATEGORY = 'Specola';
export const SECTION = 'scaleout';

/** Ask before workers and the results that they hold are lost. */
export async function confirmStop(cluster: ICluster): Promise<boolean> {
  const workers = cluster.workers.running ? `Its ${many(cluster.workers.running, 'worker')} and ` : 'Its scheduler and ';
  const answer = await showDialog({
    title: `Stop cluster ${shortName(cluster)}?`,
    body: `${workers}the results that they hold are lost. Files stay.`,
    buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: 'Stop' })]
  });
  return answer.button.accept;
}

interface IParts {
  app: JupyterFrontEnd;
  panel: IPanel | null;
  notebooks: INotebookTracker | null;
  palette: ICommandPalette | null;
  model: ScaleoutModel;
  form: IForm;
}

/** The commands of scale-out; `args.cluster` names one, else the first that lives is meant. */
export function addCommands({ app, panel, notebooks, palette, model, form }: IParts): void {
  const which = (name: unknown): ICluster | undefined =>
    model.alive.find(cluster => name === undefined || cluster.name === name);
  app.commands.addCommand(NEW_CLUSTER, {
    label: args => (args.isLauncher ? 'Dask cluster' : 'New Dask Cluster…'),
    caption: 'Start a Dask cluster on this facility',
    icon: args => (args.isPalette ? undefined : clusterIcon),
    execute: () => {
      panel?.show(SECTION);
      form.set(true);
    }
  });
  app.commands.addCommand(INSERT_CELL, {
    label: 'Insert a Cell That Uses My Dask Cluster',
    isEnabled: args => notebooks !== null && which(args.cluster)?.status === 'running',
    execute: async args => {
      const cluster = which(args.cluster);
      if (cluster && notebooks) {
        await insertCell(app, notebooks, cluster.name);
      }
    }
  });
  app.commands.addCommand(STOP_CLUSTER, {
    label: 'Stop My Dask Cluster',
    isEnabled: args => which(args.cluster) !== undefined,
    execute: async args => {
      const cluster = which(args.cluster);
      if (cluster && (await confirmStop(cluster))) {
        await model.stop(cluster.name);
      }
    }
  });
  model.clusters.changed.connect(() => app.commands.notifyCommandChanged());
  for (const command of [NEW_CLUSTER, INSERT_CELL, STOP_CLUSTER]) {
    palette?.addItem({ command, category: CATEGORY, args: { isPalette: true } });
  }
}
