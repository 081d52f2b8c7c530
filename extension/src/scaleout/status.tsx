import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { IStatusBar } from '@jupyterlab/statusbar';
import { ReactWidget } from '@jupyterlab/ui-components';
import type { IDisposable } from '@lumino/disposable';
import * as React from 'react';

import { OPEN_PANEL } from '../panel/plugin';
import { bytes, many } from '../ui/format';
import { useResource, useSignal } from '../ui/hooks';
import { IScaleout } from './model';
import type { ScaleoutModel, WorkersFeed } from './model';

const SLOW_MS = 10_000;

function Memory(props: { feed: WorkersFeed }): JSX.Element {
  useSignal(props.feed.now.changed);
  React.useEffect(() => {
    const watch: IDisposable = props.feed.watch(SLOW_MS);
    return () => watch.dispose();
  }, [props.feed]);
  const totals = props.feed.now.value?.totals;
  return <>{totals?.workers ? ` · ${bytes(totals.memory)}` : ''}</>;
}

/** "2 workers · 1.2 GB"; nothing while there is no cluster. */
export function StatusItem(props: { model: ScaleoutModel; open: () => void }): JSX.Element | null {
  const clusters = useResource(props.model.clusters);
  const { alive } = props.model;
  if (!clusters.value || !alive.length) {
    return null;
  }
  const running = alive.reduce((sum, cluster) => sum + cluster.workers.running, 0);
  const first = alive.find(cluster => cluster.status === 'running');
  return (
    <button className="specola-Status" title="Dask workers: open the Specola panel" onClick={props.open}>
      {many(running, 'worker')}
      {first && <Memory feed={props.model.feed(first.name)} />}
    </button>
  );
}

/** Workers and their memory, in the status bar. */
export const statusPlugin: JupyterFrontEndPlugin<void> = {
  id: '@specola/lab:status',
  description: 'Workers and their memory in the status bar.',
  autoStart: true,
  requires: [IScaleout],
  optional: [IStatusBar],
  activate: (app: JupyterFrontEnd, model: ScaleoutModel, bar: IStatusBar | null): void => {
    const open = (): void => {
      if (app.commands.hasCommand(OPEN_PANEL)) {
        void app.commands.execute(OPEN_PANEL);
      }
    };
    const item = ReactWidget.create(<StatusItem model={model} open={open} />);
    bar?.registerStatusItem('@specola/lab:status', { item, align: 'left', rank: 90 });
  }
};
