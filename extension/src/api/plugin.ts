import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Token } from '@lumino/coreutils';

import { Client } from './client';
import { EventStream } from './events';
import type { IEvents } from './events';

export const IEventStream = new Token<IEvents>('@specola/lab:IEvents', 'What happens in the facility, as it happens.');

/** The stream that all plugins (and all tabs) share. */
export const eventsPlugin: JupyterFrontEndPlugin<IEvents> = {
  id: '@specola/lab:events',
  description: 'One stream of events per browser; without it the panel polls.',
  autoStart: true,
  provides: IEventStream,
  activate: (app: JupyterFrontEnd): IEvents => new EventStream(new Client(app.serviceManager.serverSettings))
};
