import * as React from 'react';

import type { ILease, IProblem } from '../api/types';
import { Bar, Sparkline } from '../ui/charts';
import { bytes, clock, span } from '../ui/format';
import { Problem } from '../ui/states';
import type { GpuModel } from './model';
import { problemOf } from './model';
import { at, basename, doing, ends, listed, named, notice, said } from './words';

/** What only the Lab can do for a lease. */
export interface IActions {
  /** Path of the notebook in front, if one is. */
  notebook: () => string | null;
  /** Whether the notebook in front runs on a GPU kernel. */
  onGpu: () => boolean;
  /** Path of what a kernel runs. */
  usedBy: (kernel: string) => string | null;
  /** Give the notebook in front, or a new one, the lease's kernel. */
  use: (lease: ILease, fresh: boolean) => Promise<void>;
  confirmRelease: (lease: ILease) => Promise<boolean>;
  /** Put saved variables into the kernel of the notebook in front. */
  restore: (lease: string) => Promise<void>;
}

const DOT: Partial<Record<ILease['state'], string>> = { active: 'ok', offered: 'ok', ended: 'off' };
const SOON_MS = 10 * 60_000;
const OVER = new Set<ILease['state']>(['saving', 'ending', 'ended']);
const DURING: Partial<Record<ILease['state'], string>> = {
  making: 'The slice is being made.',
  starting: 'Starting.',
  saving: 'Being saved: your checkpoint, then your variables.',
  ending: 'Saved; the slice is being given back.'
};

function Head(props: { lease: ILease; usedBy: string | null; release: () => void }): JSX.Element {
  const { lease, usedBy, release } = props;
  const holder = lease.server !== null ? `held by your server${lease.server ? ` ${lease.server}` : ''}` : '';
  const where = [holder || (usedBy && `in ${basename(usedBy)}`), lease.model, lease.simulated && 'simulated'];
  return (
    <>
      <div className="specola-Row">
        <span className={`specola-Dot specola-mod-${DOT[lease.state] ?? 'warn'}`} aria-hidden="true" />
        <b title={lease.device ?? undefined}>{lease.profile}</b>
        <span className="specola-grow" />
        {!OVER.has(lease.state) && (
          <button className="specola-Button" aria-label={`Give back ${named(lease)}`} onClick={release}>
            Give back
          </button>
        )}
      </div>
      <div className="specola-Muted">{where.filter(Boolean).join(' · ')}</div>
    </>
  );
}

/** The share of time that the engine computed, as far as it was measured. */
export function Use(props: { lease: ILease; now: number }): JSX.Element {
  const { lease, now } = props;
  const engine = lease.activity.map(moment => moment.engine);
  const newest = lease.activity[lease.activity.length - 1];
  const measured = engine.some(one => one !== null);
  const memory = newest?.memory ? `${bytes(newest.memory)} of ${said(lease)} GB in use` : '';
  return (
    <>
      {measured && (
        <Sparkline
          label="Use of your slice"
          caption={`${Math.round(100 * (newest?.engine ?? 0))} %`}
          values={engine.map(one => one ?? 0)}
          top={1}
          slots={Math.max(60, engine.length)}
        />
      )}
      <div className="specola-Muted">{[doing(lease, now), memory].filter(Boolean).join(' · ')}</div>
    </>
  );
}

function Term(props: { lease: ILease; now: number; renew: () => void; minutes: number }): JSX.Element | null {
  const { lease, now, renew, minutes } = props;
  const end = ends(lease);
  if (Number.isNaN(end)) {
    return null;
  }
  const begin = at(lease.active ?? lease.granted);
  const longest = at(lease.longest);
  const spent = !Number.isNaN(longest) && end >= longest;
  return (
    <>
      <Bar label="Time of the lease" value={now - begin} top={end - begin} text={`${span(end - now)} left`} warn={end - now < SOON_MS} />
      <div className="specola-Row">
        <span className="specola-Muted">
          {span(end - now)} left, until {clock(end)}
        </span>
        <span className="specola-grow" />
        <button
          className="specola-Button"
          disabled={spent}
          title={spent ? 'It cannot be longer: your group allows no more' : `${span(60_000 * minutes)} more`}
          aria-label={`Renew ${named(lease)}`}
          onClick={renew}
        >
          Renew
        </button>
      </div>
    </>
  );
}

/** Two ways to take a slice that waits for its person, or a kernel that no notebook uses. */
function Take(props: { lease: ILease; actions: IActions; attempt: (work: Promise<void>) => void }): JSX.Element {
  const { lease, actions, attempt } = props;
  const front = actions.notebook();
  return (
    <>
      {lease.state === 'active' && <div>A GPU kernel runs, and no notebook uses it.</div>}
      <div className="specola-Row specola-mod-wrap">
        {front && (
          <button className="specola-Button specola-mod-primary" onClick={() => attempt(actions.use(lease, false))}>
            Use it in {basename(front)}
          </button>
        )}
        <button className={`specola-Button${front ? '' : ' specola-mod-primary'}`} onClick={() => attempt(actions.use(lease, true))}>
          New GPU notebook
        </button>
      </div>
    </>
  );
}

function Notice(props: { lease: ILease; keep: () => void }): JSX.Element {
  return (
    <div role="alert" className="specola-Note specola-mod-warn">
      {notice(props.lease)}
      {props.lease.cause !== 'released' && props.lease.cause !== 'drained' && (
        <div className="specola-Row">
          <button className="specola-Link" onClick={props.keep}>
            Keep it
          </button>
        </div>
      )}
    </div>
  );
}

/** What was saved of an earlier kernel, offered to this one. */
function Earlier(props: { model: GpuModel; actions: IActions; attempt: (work: Promise<void>) => void }): JSX.Element | null {
  const { model, actions, attempt } = props;
  const kept = model.snapshot;
  if (!kept) {
    return null;
  }
  const done = (): void => model.dismissSnapshot(kept.name);
  return (
    <div className="specola-Note">
      Your last GPU kernel was saved at {clock(1000 * kept.created)}: {listed(kept.names) || 'no variables'}.
      <div className="specola-Row">
        <button
          className="specola-Button"
          disabled={!actions.onGpu()}
          title="Puts what was saved into the kernel of the notebook in front, which has to be a GPU kernel"
          onClick={() => attempt(actions.restore(kept.name).then(done))}
        >
          Restore
        </button>
        <button className="specola-Link" onClick={done}>
          Dismiss
        </button>
      </div>
    </div>
  );
}

/** A slice on lease: what it does, how long it lasts, and what can be done with it. */
export function LeaseCard(props: { lease: ILease; model: GpuModel; actions: IActions; now: number }): JSX.Element {
  const { lease, model, actions, now } = props;
  const [problem, setProblem] = React.useState<IProblem | null>(null);
  const attempt = (work: Promise<void>): void => {
    setProblem(null);
    work.catch(error => setProblem(problemOf(error)));
  };
  const minutes = model.term(lease);
  const renew = (): void => attempt(model.renew(lease, minutes));
  const release = (): void =>
    attempt(actions.confirmRelease(lease).then(async yes => (yes ? model.release(lease) : undefined)));
  const usedBy = lease.kernel === null ? null : actions.usedBy(lease.kernel);
  const running = lease.state === 'active' || lease.state === 'expiring';
  const free = lease.server === null && usedBy === null;
  return (
    <article className="specola-Card" aria-label={`${named(lease)}, ${lease.state}`}>
      <Head lease={lease} usedBy={usedBy} release={release} />
      {DURING[lease.state] && (
        <div className="specola-Muted" role="status">
          {lease.reason || DURING[lease.state]}
        </div>
      )}
      {lease.state === 'offered' && (
        <div role="status">
          It is yours: held until {clock(ends(lease))} ({span(ends(lease) - now)}).
        </div>
      )}
      {running && <Use lease={lease} now={now} />}
      {running && <Term lease={lease} now={now} renew={renew} minutes={minutes} />}
      {lease.state === 'expiring' && <Notice lease={lease} keep={() => attempt(model.keep(lease))} />}
      {problem && <Problem problem={problem} dismiss={() => setProblem(null)} />}
      {lease.state === 'active' && lease.server === null && <Earlier model={model} actions={actions} attempt={attempt} />}
      {((lease.state === 'offered' && model.isNext(lease)) || (lease.state === 'active' && free)) && (
        <Take lease={lease} actions={actions} attempt={attempt} />
      )}
    </article>
  );
}
