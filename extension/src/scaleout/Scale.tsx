import * as React from 'react';

import type { ICluster } from '../api/types';

const SETTLE_MS = 500;

/** Slider for a fixed number of workers, or a range that follows the work. */
export function Scale(props: {
  cluster: ICluster;
  most: number;
  scale: (workers: number) => void;
  adapt: (minimum: number, maximum: number) => void;
}): JSX.Element {
  const { cluster, most } = props;
  const [wanted, setWanted] = React.useState<number | null>(null);
  const timer = React.useRef<ReturnType<typeof setTimeout>>();
  React.useEffect(() => () => clearTimeout(timer.current), []);
  React.useEffect(() => setWanted(null), [cluster.workers.wanted]);
  const slide = (workers: number): void => {
    setWanted(workers);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => props.scale(workers), SETTLE_MS);
  };
  const shown = wanted ?? cluster.workers.wanted;
  const id = `specola-scale-${cluster.name}`;
  const range = cluster.adaptive ?? { minimum: 0, maximum: Math.max(1, cluster.workers.wanted) };
  const bound = (name: 'minimum' | 'maximum', value: number): void => {
    const next = { ...range, [name]: value };
    if (next.minimum >= 0 && next.maximum >= 1 && next.minimum <= next.maximum) {
      props.adapt(next.minimum, next.maximum);
    }
  };
  return (
    <div className="specola-Row">
      <label className="specola-Check" title="Follow the work: more workers while tasks wait, fewer when idle">
        <input
          type="checkbox"
          checked={cluster.adaptive !== null}
          onChange={event => (event.target.checked ? props.adapt(range.minimum, range.maximum) : props.scale(cluster.workers.wanted))}
        />
        Adaptive
      </label>
      {cluster.adaptive ? (
        (['minimum', 'maximum'] as const).map(name => (
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
        ))
      ) : (
        <>
          <input
            id={id}
            aria-label="Workers wanted"
            type="range"
            min={0}
            max={Math.max(most, cluster.workers.wanted)}
            value={shown}
            onChange={event => slide(Number(event.target.value))}
          />
          <output htmlFor={id} className="specola-Number">
            {shown}
          </output>
        </>
      )}
    </div>
  );
}
