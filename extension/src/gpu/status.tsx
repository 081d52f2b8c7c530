import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { IStatusBar } from '@jupyterlab/statusbar';
import { ReactWidget } from '@jupyterlab/ui-components';
import * as React from 'react';

import { OPEN_PANEL } from '../panel/plugin';
import { span } from '../ui/format';
import { useResource, useSignal } from '../ui/hooks';
import { IGpus } from './model';
import type { GpuModel } from './model';
import { ends, said } from './words';

const TICK_MS = 10_000;

/** "GPU 20 GB · 42 min", "GPU: position 2"; nothing without either. */
export function statusText(model: GpuModel, now: number): string {
  const [lease] = model.held;
  if (lease) {
    const left = ends(lease) - now;
    const time = Number.isNaN(left) ? lease.state : span(left);
    const simulated = lease.simulated ? ' (simulated)' : '';
    return `GPU ${said(lease)} GB${simulated} · ${lease.state === 'offered' ? `ready, ${time}` : time}`;
  }
  const [wish] = model.queued;
  return wish ? `GPU: ${wish.position ? `position ${wish.position}` : 'in the queue'}` : '';
}

/** Remaining time or place in the queue, as a button that opens the panel. */
export function GpuStatus(props: { model: GpuModel; open: () => void }): JSX.Element | null {
  const { model, open } = props;
  useResource(model.leases);
  useResource(model.wishes);
  useSignal(model.changed);
  const [now, setNow] = React.useState(Date.now);
  React.useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), TICK_MS);
    return () => clearInterval(timer);
  }, []);
  const text = statusText(model, Math.max(now, model.leases.at));
  return text ? (
    <button className="specola-Status" title="Your GPU: open the Specola panel" onClick={open}>
      {text}
    </button>
  ) : null;
}

/** What is left of the lease, in the status bar. */
export const gpuStatusPlugin: JupyterFrontEndPlugin<void> = {
  id: '@specola/lab:gpu-status',
  description: 'The remaining time of your GPU, or your place in the queue, in the status bar.',
  autoStart: true,
  requires: [IGpus],
  optional: [IStatusBar],
  activate: (app: JupyterFrontEnd, model: GpuModel, bar: IStatusBar | null): void => {
    const open = (): void => {
      if (app.commands.hasCommand(OPEN_PANEL)) {
        void app.commands.execute(OPEN_PANEL);
      }
    };
    const item = ReactWidget.create(<GpuStatus model={model} open={open} />);
    bar?.registerStatusItem('@specola/lab:gpu-status', { item, align: 'left', rank: 89 });
  }
};
