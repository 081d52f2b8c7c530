import * as React from 'react';

import type { ISignal } from '@lumino/signaling';

import type { IOffers } from '../api/types';
import { usePoll, useResource, useSignal } from '../ui/hooks';
import { Empty, Loading, Problem } from '../ui/states';
import { Ask } from './Ask';
import { GpuMap } from './GpuMap';
import { LeaseCard } from './LeaseCard';
import type { IActions } from './LeaseCard';
import type { GpuModel } from './model';
import { EndedCard, FailedWish } from './Past';
import { WishCard } from './WishCard';
import { allowance, ends, sizes, usable } from './words';

const RESTING_MS = 20_000;
const LIVE_MS = 5_000;
const MOVING_MS = 2_000;
const SECOND_MS = 1_000;
const CALM_MS = 15_000;
const CLOSE_MS = 3 * 60_000;

/** What the section hears of the Lab: another notebook in front, and a command that opens the form. */
export interface IStage {
  changed: ISignal<unknown, unknown>;
  asked: ISignal<unknown, unknown>;
}

/** The time, by the second when something ends soon. */
function useNow(model: GpuModel, visible: boolean): number {
  const [now, setNow] = React.useState(Date.now);
  const soon = model.held.some(lease => ends(lease) - now < CLOSE_MS);
  React.useEffect(() => {
    if (!visible) {
      return undefined;
    }
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), soon ? SECOND_MS : CALM_MS);
    return () => clearInterval(timer);
  }, [visible, soon]);
  return Math.max(now, model.leases.at);
}

function period(model: GpuModel): number {
  if (model.isMoving) {
    return MOVING_MS;
  }
  return model.held.length ? LIVE_MS : RESTING_MS;
}

/** What the own server keeps is asked for once something was saved, and when a kernel is there to take it. */
function useSaved(model: GpuModel): void {
  const ended = model.past.leases.filter(lease => lease.saved !== null).length;
  const active = model.held.filter(lease => lease.state === 'active' && lease.server === null).length;
  React.useEffect(() => {
    if (ended || active) {
      void model.snapshots.refresh();
    }
  }, [model, ended, active]);
}

function Cards(props: { model: GpuModel; actions: IActions; now: number }): JSX.Element {
  const { model, actions, now } = props;
  const { past } = model;
  return (
    <>
      {past.wishes.map(wish => (
        <FailedWish key={wish.id} wish={wish} model={model} />
      ))}
      {model.held.map(lease => (
        <LeaseCard key={lease.id} lease={lease} model={model} actions={actions} now={now} />
      ))}
      {model.queued.map(wish => (
        <WishCard key={wish.id} wish={wish} model={model} now={now} />
      ))}
      {past.leases.map(lease => (
        <EndedCard key={lease.id} lease={lease} model={model} />
      ))}
    </>
  );
}

/** The form; behind a button while there is something else to look at. */
function Form(props: { model: GpuModel; actions: IActions; offers: IOffers; stage: IStage }): JSX.Element {
  const { model, actions, offers, stage } = props;
  const [more, setMore] = React.useState(false);
  const form = React.useRef<HTMLFormElement>(null);
  const focus = (): void => {
    setMore(true);
    requestAnimationFrame(() => form.current?.querySelector('input')?.focus());
  };
  React.useEffect(() => {
    stage.asked.connect(focus);
    return () => void stage.asked.disconnect(focus);
  }, [stage]);
  if (!sizes(offers, '').length) {
    return <Empty>{usable(offers).length ? 'No size can be asked for at present.' : 'None of these GPUs is for your groups.'}</Empty>;
  }
  if (!more && (model.held.length > 0 || model.queued.length > 0)) {
    return (
      <div className="specola-Row">
        <button className="specola-Button" onClick={focus}>
          Ask for another
        </button>
      </div>
    );
  }
  return <Ask model={model} offers={offers} notebook={actions.notebook()} form={form} asked={() => setMore(false)} />;
}

/** The section: the map, what I hold and wait for, the form. */
export function Gpu(props: { model: GpuModel; actions: IActions; stage: IStage; visible: boolean }): JSX.Element {
  const { model, actions, stage, visible } = props;
  const offers = useResource(model.offers);
  useResource(model.leases);
  useResource(model.wishes);
  useSignal(model.changed);
  useSignal(stage.changed);
  const now = useNow(model, visible);
  usePoll(() => void model.reread(), visible && !model.isAbsent ? period(model) : null);
  useSaved(model);
  if (model.isAbsent) {
    return <Empty>This facility offers no GPU.</Empty>;
  }
  if (!offers.value) {
    return offers.problem ? <Problem problem={offers.problem} retry={() => void model.reread()} /> : <Loading what="the GPUs" />;
  }
  const problem = offers.problem ?? model.leases.problem ?? model.wishes.problem;
  const usage = allowance(offers.value);
  return (
    <div className={problem ? 'specola-mod-stale' : undefined}>
      {problem && <Problem problem={problem} retry={() => void model.reread()} />}
      <GpuMap pools={offers.value.pools} />
      <Cards model={model} actions={actions} now={now} />
      <Form model={model} actions={actions} offers={offers.value} stage={stage} />
      {usage && <p className="specola-Muted">{usage} (a slot is an eighth of a GPU).</p>}
    </div>
  );
}
