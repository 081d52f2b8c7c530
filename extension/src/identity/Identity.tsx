import * as React from 'react';

import type { Resource } from '../api/resource';
import type { IHome, IMe } from '../api/types';
import { Bar } from '../ui/charts';
import { bytes, many } from '../ui/format';
import { usePoll, useResource } from '../ui/hooks';
import { Loading, Problem } from '../ui/states';

const WHY: Record<string, string> = { token: 'from your login', roster: "from this facility's list" };
const WHAT: Record<string, string> = { servers: 'Notebook servers', scaleout: 'Dask clusters' };
export const HOME_WARNING_PERCENT = 95;

function Groups(props: { me: IMe }): JSX.Element {
  return (
    <ul className="specola-List" aria-label="Groups">
      {props.me.groups.map(group => (
        <li key={group.name} className="specola-Row">
          <b>{group.name}</b>
          <span className="specola-Muted">
            {[group.roles.join(', '), WHY[group.why] ?? group.why].filter(Boolean).join(' · ')}
          </span>
        </li>
      ))}
    </ul>
  );
}

/** "4 GiB memory, 2 cores, 8 workers": limits that are set. */
export function describeLimits({ memory_gib, cores, workers }: IMe['limits']): string {
  return [
    memory_gib ? `${memory_gib} GiB memory` : '',
    cores ? many(cores, 'core') : '',
    typeof workers === 'number' ? many(workers, 'Dask worker') : ''
  ]
    .filter(Boolean)
    .join(', ');
}

function Rights(props: { me: IMe }): JSX.Element {
  const limits = describeLimits(props.me.limits);
  return (
    <details className="specola-Details">
      <summary>What may I use, and why</summary>
      <ul className="specola-List">
        {props.me.rights.map(right => (
          <li key={right.what}>
            <span className={`specola-Dot ${right.allowed ? 'specola-mod-ok' : 'specola-mod-off'}`} aria-hidden="true" />{' '}
            {WHAT[right.what] ?? right.what}
            <span className="specola-Muted">
              {' '}
              {right.allowed ? 'yes' : 'no'}: {right.why}
            </span>
          </li>
        ))}
      </ul>
      {limits && <p className="specola-Muted">At most {limits}.</p>}
    </details>
  );
}

function Home(props: { home: IHome }): JSX.Element {
  const { used, quota, percent } = props.home;
  const full = percent !== null && percent >= HOME_WARNING_PERCENT;
  const text = quota ? `${bytes(used)} of ${bytes(quota)}` : bytes(used);
  return (
    <>
      <div className="specola-Row">
        <span className="specola-Row-label">Home</span>
        {quota ? <Bar label="Home" value={used} top={quota} text={text} warn={full} /> : <span className="specola-grow" />}
        <span className="specola-Muted">{text}</span>
      </div>
      {full && (
        <div role="alert" className="specola-Note specola-mod-warn">
          Your home is {Math.round(percent)} % full. Delete or move files now: when it is full, notebooks cannot be saved.
        </div>
      )}
    </>
  );
}

/** Who I am, through which groups, and how full my home is. */
export function Identity(props: { me: Resource<IMe>; home: Resource<IHome>; visible: boolean }): JSX.Element {
  const me = useResource(props.me);
  const home = useResource(props.home);
  usePoll(() => void home.refresh(), props.visible ? 120_000 : null);
  if (!me.value) {
    return me.problem ? <Problem problem={me.problem} retry={() => void me.refresh()} /> : <Loading what="who you are" />;
  }
  return (
    <>
      {me.problem && <Problem problem={me.problem} retry={() => void me.refresh()} />}
      <div className="specola-Row">
        <b>{me.value.full_name || me.value.name}</b>
        <span className="specola-Muted">{me.value.name}</span>
      </div>
      {me.value.groups.length > 0 ? <Groups me={me.value} /> : <p className="specola-Muted">You are in no group.</p>}
      {me.value.rights.length > 0 && <Rights me={me.value} />}
      {home.value && <Home home={home.value} />}
    </>
  );
}
