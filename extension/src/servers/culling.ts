import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Notification } from '@jupyterlab/apputils';

import { Client } from '../api/client';
import type { IEvent, IEvents } from '../api/events';
import { IEventStream } from '../api/plugin';
import { clock } from '../ui/format';

/** Milliseconds of a time on the wire, which may be ISO text or seconds. */
export function moment(at: unknown): number {
  return typeof at === 'number' ? 1000 * at : Date.parse(String(at));
}

/** "This server stops at 14:05 because nothing has happened in it for a long time." */
export function warning(event: IEvent): string {
  const name = event.data.server ? `Server ${String(event.data.server)}` : 'This server';
  const at = moment(event.data.at);
  const when = Number.isNaN(at) ? 'soon' : `at ${clock(at)}`;
  const why = event.data.why ? ` because ${String(event.data.why)}` : '';
  return `${name} stops ${when}${why}. Notebooks on disk stay.`;
}

/** Says before a server is stopped for want of activity, and offers to keep it. */
export const cullingPlugin: JupyterFrontEndPlugin<void> = {
  id: '@specola/lab:culling',
  description: 'Warns before an idle server is stopped, with a button that keeps it.',
  autoStart: true,
  requires: [IEventStream],
  activate: (app: JupyterFrontEnd, events: IEvents): void => {
    const client = new Client(app.serviceManager.serverSettings);
    const shown = new Map<string, string>();
    const keep = (server: string): void => {
      const report = { server, kernels_busy: 0, kernels_connected: 1, clusters: 0 };
      client.send('POST', 'servers/activity', report).then(
        () => Notification.success('Kept.', { autoClose: 3000 }),
        error => Notification.error(`It could not be kept: ${String(error.message)}`, { autoClose: false })
      );
    };
    events.on('servers.culling', event => {
      const server = String(event.data.server ?? '');
      const last = shown.get(server);
      if (last) {
        Notification.dismiss(last);
      }
      const actions = [{ label: 'Keep it', callback: () => keep(server), displayType: 'accent' as const }];
      shown.set(server, Notification.warning(warning(event), { autoClose: false, actions }));
    });
  }
};
