import type { JupyterFrontEnd } from '@jupyterlab/application';
import { NotebookActions } from '@jupyterlab/notebook';
import type { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';

/** What a notebook needs to use a cluster. Names come from the facility; they are quoted all the same. */
export function clientCode(cluster: string): string {
  return [
    'from specola_lab import scaleout',
    `cluster = scaleout.connect(${JSON.stringify(cluster)})`,
    'client = cluster.get_client()',
    'cluster'
  ].join('\n');
}

async function anyNotebook(app: JupyterFrontEnd, notebooks: INotebookTracker): Promise<NotebookPanel> {
  if (notebooks.currentWidget) {
    return notebooks.currentWidget;
  }
  return (await app.commands.execute('notebook:create-new', { activate: true, kernelName: 'python3' })) as NotebookPanel;
}

/** Put the client's code into a cell of the current notebook, or of a new one. */
export async function insertCell(app: JupyterFrontEnd, notebooks: INotebookTracker, cluster: string): Promise<void> {
  const panel = await anyNotebook(app, notebooks);
  await panel.context.ready;
  const notebook = panel.content;
  const current = notebook.activeCell?.model;
  if (!current || current.type !== 'code' || current.sharedModel.getSource().trim()) {
    NotebookActions.insertBelow(notebook);
  }
  notebook.activeCell?.model.sharedModel.setSource(clientCode(cluster));
  app.shell.activateById(panel.id);
}
