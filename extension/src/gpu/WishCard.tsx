import * as React from 'react';

import type { IOffers, IProblem, IWish } from '../api/types';
import { Bar } from '../ui/charts';
import { clock } from '../ui/format';
import { Problem } from '../ui/states';
import { holding } from './Ask';
import type { GpuModel } from './model';
import { problemOf } from './model';
import { at, range, whenGranted, wished } from './words';

/** "position 1 of 3". */
export function place(wish: IWish, offers: IOffers | null): string {
  if (wish.position === null) {
    return 'in the queue';
  }
  const pools = new Set(wish.wants.map(want => want.pool));
  const waiting = (offers?.pools ?? []).filter(pool => pools.has(pool.name)).reduce((sum, pool) => sum + pool.queued, 0);
  return `position ${wish.position}${waiting > 1 && waiting >= wish.position ? ` of ${waiting}` : ''}`;
}

/** How much of the longest expected wait is over. */
function Progress(props: { wish: IWish; now: number }): JSX.Element | null {
  const { wish, now } = props;
  if (!wish.wait?.high) {
    return null;
  }
  const waited = Math.max(0, (now - at(wish.created)) / 1000);
  return <Bar label="Waiting time" value={waited} top={waited + wish.wait.high} text={`${range(wish.wait)} to go`} />;
}

/** A wish in the queue: where it stands, how long it may take, why it waits. */
export function WishCard(props: { wish: IWish; model: GpuModel; now: number }): JSX.Element {
  const { wish, model, now } = props;
  const [problem, setProblem] = React.useState<IProblem | null>(null);
  const cancel = (): void => {
    model.cancel(wish).catch(error => setProblem(problemOf(error)));
  };
  const offers = model.offers.value;
  const then = whenGranted(wish, offers ? holding(offers) : 'hold it');
  return (
    <article className="specola-Card" aria-label={`Waiting for ${wished(wish)}`}>
      <div className="specola-Row specola-mod-wrap">
        <b>{wished(wish)}</b>
        <span className="specola-grow" />
        <span className="specola-Pill">{place(wish, offers)}</span>
      </div>
      <div className="specola-Row">
        <Progress wish={wish} now={now} />
        <span className="specola-Muted">{range(wish.wait)}</span>
      </div>
      <div className="specola-Muted" role="status">
        asked {clock(at(wish.created))} · {wish.reason}
      </div>
      {problem && <Problem problem={problem} dismiss={() => setProblem(null)} />}
      <div className="specola-Row">
        <span className="specola-Muted">
          when granted: <b>{wish.server ? 'start the server' : then}</b>
        </span>
        <span className="specola-grow" />
        <button className="specola-Button" aria-label={`Cancel the request for ${wished(wish)}`} onClick={cancel}>
          Cancel
        </button>
      </div>
    </article>
  );
}
