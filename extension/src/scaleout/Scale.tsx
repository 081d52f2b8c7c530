import * as React from 'react';

import type { ICluster } from '../api/types';

const SETTLE_MS = 500;

type Range = { minimum: number; maximum: number };
type Wish = { workers: number } | Range;

/** Slider for a fixed number of workers, or a range that follows the work. Shows the wish until it is answered. */
export function Scale(props: { cluster: ICluster; most: number; ask: (wish: Wish) => Promise<unknown> }): JSX.Element {
  const { cluster, most } = props;
  const [wish, setWish] = React.useState<Wish | null>(null);
  const timer = React.useRef<ReturnType<typeof setTimeout>>();
  React.useEffect(() => () => clearTimeout(timer.current), []);
  const want = (next: Wish, delay: number): void => {
    setWish(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => void props.ask(next).finally(() => setWish(null)), delay);
  };
  const now: Wish = wish ?? cluster.adaptive ?? { workers: cluster.workers.wanted };
  const start: Range = { minimum: 0, maximum: Math.max(1, cluster.workers.wanted) };
  const id = `specola-scale-${cluster.name}`;
  return (
    <div className="specola-Row specola-mod-scale">
      <label className="specola-Check" title="Follow the work: more workers while tasks wait, fewer when idle">
        <input
          type="checkbox"
          checked={!('workers' in now)}
          onChange={event => want(event.target.checked ? start : { workers: cluster.workers.wanted }, 0)}
        />
        Adaptive
      </label>
      {'workers' in now ? (
        <>
          <input
            id={id}
            aria-label="Workers wanted"
            type="range"
            min={0}
            max={Math.max(most, now.workers)}
            value={now.workers}
            onChange={event => want({ workers: Number(event.target.value) }, SETTLE_MS)}
          />
          <output htmlFor={id} className="specola-Number">
            {now.workers}
          </output>
        </>
      ) : (
        <Bounds id={id} range={now} most={most} change={range => want(range, SETTLE_MS)} />
      )}
    </div>
  );
}

function Bounds(props: { id: string; range: Range; most: number; change: (range: Range) => void }): JSX.Element {
  const { id, range, most } = props;
  const bound = (name: keyof Range, value: number): void => {
    const next = { ...range, [name]: value };
    if (next.minimum >= 0 && next.maximum >= 1 && next.minimum <= next.maximum) {
      props.change(next);
    }
  };
  return (
    <>
      {(['minimum', 'maximum'] as const).map(name => (
        <React.Fragment key={name}>
          <label className="specola-Muted" htmlFor={`${id}-${name}`}>
            {name === 'minimum' ? 'from' : 'to'}
          </label>
          <input
            id={`${id}-${name}`}
            type="number"
            min={name === 'minimum' ? 0 : 1}
            max={most}
            value={range[name]}
            onChange={event => bound(name, event.target.valueAsNumber)}
          />
        </React.Fragment>
      ))}
    </>
  );
}
