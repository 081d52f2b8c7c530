import { ILayoutRestorer } from '@jupyterlab/application';
import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';

import { IEventStream } from '../api/plugin';
import type { IEvents } from '../api/events';
import { domeIcon } from '../ui/icons';
import { Panel } from './Panel';
import { IPanel } from './token';

export const OPEN_PANEL = 'specola:open-panel';
const ID = 'specola-panel';

/** One panel in the left area; features add their sections to it. */
export const panelPlugin: JupyterFrontEndPlugin<IPanel> = {
  id: '@specola/lab:panel',
  description: 'The left panel of the facility, and the command that opens it.',
  autoStart: true,
  provides: IPanel,
  optional: [IEventStream, ILayoutRestorer, ICommandPalette],
  activate: (
    app: JupyterFrontEnd,
    events: IEvents | null,
    restorer: ILayoutRestorer | null,
    palette: ICommandPalette | null
  ): IPanel => {
    const panel = new Panel(events, () => app.shell.activateById(ID));
    panel.id = ID;
    panel.title.icon = domeIcon;
    panel.title.caption = 'Specola: who I am, GPUs, clusters';
    app.shell.add(panel, 'left', { rank: 300, type: 'Specola' });
    restorer?.add(panel, ID);
    app.commands.addCommand(OPEN_PANEL, {
      label: 'Open the Specola Panel',
      icon: domeIcon,
      execute: () => app.shell.activateById(ID)
    });
    palette?.addItem({ command: OPEN_PANEL, category: 'Specola' });
    return panel;
  }
};
