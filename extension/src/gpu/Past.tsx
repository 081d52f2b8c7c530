import * as React from 'react';

import type { ILease, IProblem, ISaved, IWish } from '../api/types';
import { bytes, clock, many } from '../ui/format';
import { Problem } from '../ui/states';
import type { GpuModel } from './model';
import { problemOf } from './model';
import { at, listed, named, outcome, wished } from './words';

/** "Saved at 14:05 (1.2 MiB): model, history." */
export function savedText(saved: ISaved): string {
  const hooks = saved.hooks ? `${many(saved.hooks, 'checkpoint')} run` : '';
  const names = saved.names.length ? listed(saved.names) : 'no variables';
  return `Saved at ${clock(at(saved.at))} (${[hooks, bytes(saved.size)].filter(Boolean).join(', ')}): ${names}.`;
}

/** What was saved, and what could not be, with the reason of each. */
export function Saved(props: { saved: ISaved }): JSX.Element {
  const { failed } = props.saved;
  return (
    <>
      <div>{savedText(props.saved)}</div>
      {failed.length > 0 && (
        <details className="specola-Details">
          <summary>Not saved: {listed(failed.map(one => one.name))}</summary>
          <ul className="specola-List">
            {failed.map(one => (
              <li key={one.name}>
                <code>{one.name}</code> <span className="specola-Muted">{one.why}</span>
              </li>
            ))}
          </ul>
        </details>
      )}
    </>
  );
}

/** A lease that ended: why, what was saved, and the way back. */
export function EndedCard(props: { lease: ILease; model: GpuModel }): JSX.Element {
  const { lease, model } = props;
  const [problem, setProblem] = React.useState<IProblem | null>(null);
  const askAgain = (): void => {
    setProblem(null);
    model.askAgain(lease).catch(error => setProblem(problemOf(error)));
  };
  const kept = model.snapshots.value?.some(one => one.name === lease.id);
  return (
    <article className="specola-Card" aria-label={`${named(lease)}, ended`}>
      <div role="status">
        <b>{lease.profile}</b> ended{lease.ends_at ? ` at ${clock(at(lease.ends_at))}` : ''}: {outcome(lease)}.
      </div>
      {lease.saved && <Saved saved={lease.saved} />}
      {kept && <div className="specola-Muted">Your next GPU kernel can restore it.</div>}
      {problem && <Problem problem={problem} dismiss={() => setProblem(null)} />}
      <div className="specola-Row">
        <button className="specola-Button specola-mod-primary" onClick={askAgain}>
          Ask again
        </button>
        <span className="specola-grow" />
        <button className="specola-Link" onClick={() => model.dismiss(lease.id)}>
          Dismiss
        </button>
      </div>
    </article>
  );
}

/** A wish that came to nothing. */
export function FailedWish(props: { wish: IWish; model: GpuModel }): JSX.Element {
  const { wish, model } = props;
  return (
    <article className="specola-Note specola-mod-bad" aria-label={`${wished(wish)}, failed`}>
      <div role="status">
        <b>{wished(wish)}</b> could not be had. {wish.reason}
      </div>
      <button className="specola-Link" onClick={() => model.dismiss(wish.id)}>
        Dismiss
      </button>
    </article>
  );
}
