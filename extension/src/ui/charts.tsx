import * as React from 'react';

const WIDTH = 300;

/** Points of a polyline over the whole width; the newest value is at the right edge. */
export function points(values: readonly number[], top: number, height: number, slots: number): string {
  const step = WIDTH / Math.max(1, slots - 1);
  const first = slots - values.length;
  return values
    .map((value, index) => {
      const y = height - 1 - (height - 2) * Math.min(1, Math.max(0, value / (top || 1)));
      return `${((first + index) * step).toFixed(1)},${y.toFixed(1)}`;
    })
    .join(' ');
}

/** A small line over time with its newest value in words. */
export function Sparkline(props: {
  label: string;
  caption: string;
  values: readonly number[];
  top: number;
  slots?: number;
  height?: number;
}): JSX.Element {
  const { values, top, slots = 60, height = 30 } = props;
  const line = points(values, top, height, slots);
  const start = line.split(',', 1)[0];
  return (
    <figure className="specola-Spark">
      <figcaption>
        <span>{props.label}</span>
        <span>{props.caption}</span>
      </figcaption>
      <svg
        role="img"
        aria-label={`${props.label}: ${props.caption}`}
        viewBox={`0 0 ${WIDTH} ${height}`}
        preserveAspectRatio="none"
        style={{ height }}
      >
        {values.length > 1 && (
          <polygon className="specola-Spark-area" points={`${start},${height} ${line} ${WIDTH},${height}`} />
        )}
        <polyline className="specola-Spark-line" vectorEffect="non-scaling-stroke" points={line} />
      </svg>
    </figure>
  );
}

/** How much of something is there: a track with a filled part. */
export function Bar(props: { label: string; value: number; top: number; text?: string; warn?: boolean }): JSX.Element {
  const share = props.top > 0 ? Math.min(1, Math.max(0, props.value / props.top)) : 0;
  return (
    <div
      role="meter"
      aria-label={props.label}
      aria-valuemin={0}
      aria-valuemax={props.top}
      aria-valuenow={Math.min(props.value, props.top)}
      aria-valuetext={props.text}
      className={`specola-Bar${props.warn ? ' specola-mod-warn' : ''}`}
    >
      <div style={{ width: `${(100 * share).toFixed(1)}%` }} />
    </div>
  );
}
