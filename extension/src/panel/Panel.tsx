import { PageConfig } from '@jupyterlab/coreutils';
import { ReactWidget } from '@jupyterlab/ui-components';
import type { IDisposable } from '@lumino/disposable';
import { DisposableDelegate } from '@lumino/disposable';
import type { Message } from '@lumino/messaging';
import { Signal } from '@lumino/signaling';
import * as React from 'react';

import type { IEvents } from '../api/events';
import { useSignal } from '../ui/hooks';
import { Section } from '../ui/Section';
import { Offline } from '../ui/states';
import type { IPanel, ISection } from './token';

function Fold(props: { section: ISection; open: boolean; visible: boolean; toggle: () => void }): JSX.Element {
  const { section, open, visible, toggle } = props;
  useSignal(section.changed);
  const Body = section.body;
  return (
    <Section id={section.id} title={section.title} summary={section.summary()} open={open} toggle={toggle}>
      <Body visible={visible} />
    </Section>
  );
}

function Banner(props: { events: IEvents }): JSX.Element | null {
  useSignal(props.events.stateChanged);
  const { online, since } = props.events.state;
  return online ? null : <Offline since={since} />;
}

/** The widget in the left area. */
export class Panel extends ReactWidget implements IPanel {
  constructor(
    private readonly _events: IEvents | null,
    private readonly _activate: () => void
  ) {
    super();
    this.addClass('specola-Panel');
    this.node.tabIndex = -1;
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', 'Specola');
  }

  add(section: ISection): IDisposable {
    this._sections = [...this._sections, section].sort((a, b) => a.rank - b.rank);
    this.update();
    return new DisposableDelegate(() => {
      this._sections = this._sections.filter(other => other !== section);
      this.update();
    });
  }

  show(section?: string): void {
    if (section === undefined) {
      super.show();
      return;
    }
    this._folded.delete(section);
    this._activate();
    this.update();
  }

  setHead(who: string): void {
    this._who = who;
    this.update();
  }

  render(): JSX.Element {
    return (
      <>
        <header className="specola-Head">
          <b>Specola</b>
          {this._facility && <span className="specola-Pill">{this._facility}</span>}
          <span className="specola-Head-who">{this._who}</span>
        </header>
        {this._events && <Banner events={this._events} />}
        {this._sections.map(section => (
          <Fold
            key={section.id}
            section={section}
            open={!this._folded.has(section.id)}
            visible={this.isVisible}
            toggle={() => this._toggle(section.id)}
          />
        ))}
      </>
    );
  }

  /** The keyboard follows into the panel, unless something in it has the focus already. */
  protected onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    if (!this.node.contains(document.activeElement)) {
      this.node.focus();
    }
  }

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.update();
  }

  protected onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this.update();
  }

  dispose(): void {
    Signal.clearData(this);
    super.dispose();
  }

  private _toggle(id: string): void {
    if (!this._folded.delete(id)) {
      this._folded.add(id);
    }
    this.update();
  }

  private _sections: ISection[] = [];
  private readonly _folded = new Set<string>();
  private readonly _facility = PageConfig.getOption('specolaFacility');
  private _who = '';
}
