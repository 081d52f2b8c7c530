import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ILauncher } from '@jupyterlab/launcher';

import { CATEGORY, NEW_CLUSTER } from './commands';
import { IScaleout } from './model';

/** A card in the launcher that opens the form for a new cluster. */
export const launcherPlugin: JupyterFrontEndPlugin<void> = {
  id: '@specola/lab:launcher',
  description: 'The launcher card "Dask cluster".',
  autoStart: true,
  requires: [IScaleout],
  optional: [ILauncher],
  activate: (_app: JupyterFrontEnd, _model: unknown, launcher: ILauncher | null): void => {
    launcher?.add({ command: NEW_CLUSTER, category: CATEGORY, rank: 0, args: { isLauncher: true } });
  }
};
