import * as React from 'react';

import { ProblemError } from '../api/client';
import type { IProblem, ISite } from '../api/types';
import { many } from '../ui/format';
import { Problem } from '../ui/states';
import type { ScaleoutModel } from './model';

const FIRST_WORKERS = 2;
const DEFAULT_MOST = 8;

/** A site in one line: what is free there, or why it cannot be used. */
export function describeSite(site: ISite): string {
  if (site.available === false) {
    return site.reason || 'not available';
  }
  if (typeof site.free === 'number') {
    return `${many(site.free, 'worker')} left for you`;
  }
  return site.reason || 'ready';
}

/** The form behind "New cluster": where, and how many workers. */
export function NewCluster(props: { model: ScaleoutModel; close: () => void }): JSX.Element {
  const { model, close } = props;
  const usable = (model.sites.value ?? []).filter(site => site.available !== false);
  const [site, setSite] = React.useState(usable[0]?.name ?? '');
  const [workers, setWorkers] = React.useState(FIRST_WORKERS);
  const [busy, setBusy] = React.useState(false);
  const [problem, setProblem] = React.useState<IProblem | null>(null);
  const first = React.useRef<HTMLInputElement>(null);
  React.useEffect(() => first.current?.focus(), []);
  const chosen = usable.find(one => one.name === site) ?? usable[0];
  const submit = async (event: React.FormEvent): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      await model.create({ site: chosen?.name ?? site, workers });
      close();
    } catch (error) {
      if (!(error instanceof ProblemError)) {
        throw error;
      }
      setProblem(error.problem);
      setBusy(false);
    }
  };
  return (
    <form className="specola-Card" aria-label="New cluster" onSubmit={event => void submit(event)}>
      <div className="specola-Row">
        <label className="specola-Row-label" htmlFor="specola-new-site">
          Site
        </label>
        <select id="specola-new-site" value={chosen?.name ?? ''} onChange={event => setSite(event.target.value)}>
          {usable.map(one => (
            <option key={one.name} value={one.name}>
              {one.name}
            </option>
          ))}
        </select>
      </div>
      <div className="specola-Row">
        <label className="specola-Row-label" htmlFor="specola-new-workers">
          Workers
        </label>
        <input
          id="specola-new-workers"
          ref={first}
          type="range"
          min={0}
          max={chosen?.max_workers ?? DEFAULT_MOST}
          value={workers}
          onChange={event => setWorkers(Number(event.target.value))}
        />
        <output htmlFor="specola-new-workers" className="specola-Number">
          {workers}
        </output>
      </div>
      {chosen && <div className="specola-Muted">{describeSite(chosen)}</div>}
      {problem && <Problem problem={problem} />}
      <div className="specola-Row">
        <span className="specola-grow" />
        <button type="button" className="specola-Button" onClick={close}>
          Cancel
        </button>
        <button type="submit" className="specola-Button specola-mod-primary" disabled={busy}>
          {busy ? 'Asking…' : 'Create'}
        </button>
      </div>
    </form>
  );
}
