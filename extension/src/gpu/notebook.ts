import type { JupyterFrontEnd } from '@jupyterlab/application';
import { NotebookActions } from '@jupyterlab/notebook';
import type { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { find } from '@lumino/algorithm';

import type { ILease } from '../api/types';
import type { GpuModel } from './model';

/** Path, in the home, of what a kernel runs; null when nothing that is open uses it. */
export function usedBy(app: JupyterFrontEnd, kernel: string): string | null {
  return find(app.serviceManager.sessions.running(), one => one.kernel?.id === kernel)?.path ?? null;
}

/** Name of the kernel that runs where the slice is. */
export const GPU_KERNEL = 'specola-gpu';

/** Give the notebook in front, or a new one, the kernel of a lease; it is started if there is none yet. */
export async function useLease(
  app: JupyterFrontEnd,
  notebooks: INotebookTracker,
  model: GpuModel,
  lease: ILease,
  fresh: boolean
): Promise<void> {
  const front = fresh ? null : notebooks.currentWidget;
  const kernel = lease.kernel;
  if (front) {
    app.shell.activateById(front.id);
    await front.sessionContext.changeKernel(kernel ? { id: kernel } : { name: GPU_KERNEL });
  } else {
    const which = kernel ? { kernelId: kernel } : { kernelName: GPU_KERNEL };
    await app.commands.execute('notebook:create-new', { activate: true, ...which });
  }
  await model.leases.refresh();
}

/** What brings saved variables back. */
export function restoreCode(lease: string): string {
  return `from specola_lab import gpu\ngpu.restore(${JSON.stringify(lease)})`;
}

/** Run that in a cell of its own, so that what could not be restored is said where it is missed. */
export async function restoreInto(panel: NotebookPanel, lease: string): Promise<void> {
  await panel.context.ready;
  const current = panel.content.activeCell?.model;
  if (!current || current.type !== 'code' || current.sharedModel.getSource().trim()) {
    NotebookActions.insertBelow(panel.content);
  }
  panel.content.activeCell?.model.sharedModel.setSource(restoreCode(lease));
  await NotebookActions.runAndAdvance(panel.content, panel.sessionContext);
}
