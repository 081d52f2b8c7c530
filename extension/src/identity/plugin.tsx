import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import * as React from 'react';

import { Client } from '../api/client';
import { RESYNC } from '../api/events';
import type { IEvents } from '../api/events';
import { IEventStream } from '../api/plugin';
import { Resource } from '../api/resource';
import type { IHome, IMe } from '../api/types';
import { IPanel } from '../panel/token';
import { Identity } from './Identity';

/** Who am I, and through which groups. */
export const identityPlugin: JupyterFrontEndPlugin<void> = {
  id: '@specola/lab:identity',
  description: 'The section of the panel that says who you are, your groups and how full your home is.',
  autoStart: true,
  requires: [IPanel],
  optional: [IEventStream],
  activate: (app: JupyterFrontEnd, panel: IPanel, events: IEvents | null): void => {
    const client = new Client(app.serviceManager.serverSettings);
    const me = new Resource<IMe>(() => client.get('me'));
    const home = new Resource<IHome>(() => client.local('home'));
    me.changed.connect(() => {
      if (me.value) {
        const groups = me.value.groups.map(group => group.name);
        panel.setHead([me.value.name, ...groups.slice(0, 1)].join(' · '));
      }
    });
    events?.on(RESYNC, () => void me.refresh());
    panel.add({
      id: 'identity',
      title: 'Identity',
      rank: 10,
      summary: () => me.value?.roles.join(', ') ?? '',
      changed: me.changed,
      body: ({ visible }) => <Identity me={me} home={home} visible={visible} />
    });
  }
};
