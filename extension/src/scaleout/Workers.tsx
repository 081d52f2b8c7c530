import * as React from 'react';

import type { IWorker } from '../api/types';
import { Bar, Sparkline } from '../ui/charts';
import { bytes, many } from '../ui/format';
import { useResource } from '../ui/hooks';
import type { WorkersFeed } from './model';
import { HISTORY } from './model';

const LIVE_MS = 2_000;
const MANY = 8;

function WorkerRow(props: { worker: IWorker }): JSX.Element {
  const { worker } = props;
  const busy = worker.executing ? many(worker.executing, 'task') : 'idle';
  const memory = `${bytes(worker.memory)} of ${bytes(worker.memory_limit)}`;
  return (
    <li className="specola-Worker" title={`${worker.name} on ${worker.host}: ${memory}`}>
      <span className="specola-Worker-name">{worker.name}</span>
      <Bar
        label={`Memory of ${worker.name}`}
        value={worker.memory}
        top={worker.memory_limit}
        text={memory}
        warn={worker.memory > 0.8 * worker.memory_limit}
      />
      <span className="specola-Muted">
        {Math.round(worker.cpu)} % · {busy}
      </span>
    </li>
  );
}

/** Memory and CPU as they run, then one line a worker. */
export function Workers(props: { feed: WorkersFeed; visible: boolean }): JSX.Element | null {
  const { feed, visible } = props;
  const now = useResource(feed.now);
  React.useEffect(() => {
    if (!visible) {
      return undefined;
    }
    const watch = feed.watch(LIVE_MS);
    return () => watch.dispose();
  }, [feed, visible]);
  if (!now.value || now.value.workers.length === 0) {
    return null;
  }
  const { totals, workers, tasks } = now.value;
  const spilled = totals.spilled ? ` · ${bytes(totals.spilled)} on disk` : '';
  return (
    <div className={now.problem ? 'specola-mod-stale' : undefined}>
      <Sparkline
        label="Memory"
        caption={`${bytes(totals.memory)} of ${bytes(totals.memory_limit)}${spilled}`}
        values={feed.memory}
        top={totals.memory_limit}
        slots={HISTORY}
      />
      <Sparkline
        label="CPU"
        caption={`${Math.round(totals.cpu)} % of ${100 * totals.nthreads} %`}
        values={feed.cpu}
        top={100 * totals.nthreads}
        slots={HISTORY}
      />
      <div className="specola-Muted" role="status">
        {many(totals.executing, 'task')} running, {totals.ready + (tasks?.waiting ?? 0)} waiting
        {tasks ? `, ${tasks.processed} done` : ''}
        {tasks?.erred ? `, ${tasks.erred} failed` : ''}
      </div>
      <details className="specola-Details" open={workers.length <= MANY}>
        <summary>{many(workers.length, 'worker')}</summary>
        <ul className="specola-List">
          {workers.map(worker => (
            <WorkerRow key={worker.name} worker={worker} />
          ))}
        </ul>
      </details>
    </div>
  );
}
