import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Dialog, Notification, showDialog } from '@jupyterlab/apputils';
import type { ICommandPalette } from '@jupyterlab/apputils';

import type { ILease } from '../api/types';
import type { IPanel } from '../panel/token';
import { gpuIcon } from '../ui/icons';
import type { IActions } from './LeaseCard';
import type { GpuModel } from './model';
import { named } from './words';

export const ASK = 'specola:ask-gpu';
export const USE = 'specola:use-gpu';
export const RENEW = 'specola:renew-gpu';
export const RELEASE = 'specola:release-gpu';
export const RESTORE = 'specola:restore-gpu';
export const SECTION = 'gpu';
export const CATEGORY = 'Specola';

/** Ask before a kernel is ended. */
export async function confirmRelease(lease: ILease): Promise<boolean> {
  if (lease.state === 'offered' || lease.state === 'making') {
    return true;
  }
  const body =
    lease.server !== null
      ? 'The server that holds it is stopped. Files stay.'
      : 'Its kernel is saved as far as it can be, then ended. Files stay, and so does your server.';
  const answer = await showDialog({
    title: `Give back ${named(lease)}?`,
    body,
    buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: 'Give back' })]
  });
  return answer.button.accept;
}

interface IParts {
  app: JupyterFrontEnd;
  panel: IPanel | null;
  palette: ICommandPalette | null;
  model: GpuModel;
  actions: IActions;
  openForm: () => void;
}

interface IDeed {
  id: string;
  label: string;
  /** The lease that it acts on, if there is one. */
  on: () => ILease | undefined;
  act: (lease: ILease) => Promise<void>;
}

function deeds({ model, actions }: IParts): IDeed[] {
  const running = (): ILease | undefined => model.held.find(one => one.state === 'active' || one.state === 'expiring');
  return [
    {
      id: USE,
      label: 'Use My GPU in This Notebook',
      on: () => (actions.notebook() === null ? undefined : model.held.find(one => one.server === null && (one.state === 'offered' || one.state === 'active'))),
      act: lease => actions.use(lease, false)
    },
    { id: RENEW, label: 'Renew My GPU Lease', on: running, act: lease => model.renew(lease, model.term(lease)) },
    {
      id: RELEASE,
      label: 'Give My GPU Back',
      on: () => running() ?? model.held[0],
      act: async lease => ((await actions.confirmRelease(lease)) ? model.release(lease) : undefined)
    },
  ];
}

/** The commands of GPU sharing; what cannot be done now is greyed. */
export function addCommands(parts: IParts): void {
  const { app, panel, palette, model } = parts;
  app.commands.addCommand(ASK, {
    label: args => (args.isLauncher ? 'GPU' : 'Ask for a GPU…'),
    caption: 'Ask for a slice of a GPU',
    icon: args => (args.isPalette ? undefined : gpuIcon),
    execute: () => {
      panel?.show(SECTION);
      parts.openForm();
    }
  });
  for (const deed of deeds(parts)) {
    app.commands.addCommand(deed.id, {
      label: deed.label,
      isEnabled: () => deed.on() !== undefined,
      execute: async () => {
        const lease = deed.on();
        await (lease && deed.act(lease))?.catch((error: Error) => Notification.error(error.message, { autoClose: false }));
      }
    });
  }
  app.commands.addCommand(RESTORE, {
    label: 'Restore What Was Saved of My Last GPU Kernel',
    isEnabled: () => parts.actions.onGpu() && model.snapshot !== undefined,
    execute: async () => {
      const kept = model.snapshot;
      await (kept && parts.actions.restore(kept.name).then(() => model.dismissSnapshot(kept.name)));
    }
  });
  model.changed.connect(() => app.commands.notifyCommandChanged());
  for (const command of [ASK, USE, RENEW, RELEASE, RESTORE]) {
    palette?.addItem({ command, category: CATEGORY, args: { isPalette: true } });
  }
}
