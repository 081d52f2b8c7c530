import { Token } from '@lumino/coreutils';
import type { IDisposable } from '@lumino/disposable';
import type { ISignal } from '@lumino/signaling';

/** One fold of the panel. */
export interface ISection {
  id: string;
  title: string;
  /** Sections are shown in this order. */
  rank: number;
  /** The one line of state beside the title. */
  summary: () => string;
  /** Emitted when `summary` has something new to say. */
  changed: ISignal<unknown, unknown>;
  /** Drawn when the section is open; `visible` is false while nobody can see it. */
  body: (props: { visible: boolean }) => JSX.Element;
}

/** The left panel, to which every feature adds its section. */
export interface IPanel {
  add(section: ISection): IDisposable;
  /** Bring the panel to the front, with one section unfolded. */
  show(section?: string): void;
  /** Who is here, in the panel's head. */
  setHead(who: string): void;
}

export const IPanel = new Token<IPanel>('@specola/lab:IPanel', 'The Specola panel, to which features add sections.');
