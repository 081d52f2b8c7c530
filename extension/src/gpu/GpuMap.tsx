import * as React from 'react';

import type { IGpu, IPart, IPool } from '../api/types';
import { many } from '../ui/format';
import { freeSizes, said } from './words';

const TALL = 20;
const LOW = 10;
const FEW = 8;
const MOST_DRAWN = 96;
const PATTERNS = { idle: 'specola-gpu-idle', drained: 'specola-gpu-drained', other: 'specola-gpu-other' };

type Look = 'mine' | 'busy' | 'idle' | 'free' | 'other';

function look(part: IPart): Look {
  return part.mine ? 'mine' : part.state;
}

function size(pool: IPool, part: IPart): string {
  const shape = pool.shapes.find(one => one.shape === part.shape);
  return shape ? `${said(shape)} GB` : '';
}

/** What stands on a part: as much as fits. */
function label(pool: IPool, part: IPart, roomy: boolean): string {
  const words: Record<Look, [string, string]> = {
    mine: [`yours ${size(pool, part)}`.trim(), 'yours'],
    busy: ['in use', '▪'],
    idle: ['idle', 'idle'],
    free: ['free', 'free'],
    other: ['not ours', '×']
  };
  return words[look(part)][roomy ? 0 : 1];
}

/** What a part is, in full. */
function spoken(pool: IPool, part: IPart): string {
  const words: Record<Look, string> = {
    mine: `yours${part.state === 'idle' ? ', idle' : ''}`,
    busy: 'in use',
    idle: 'held, but idle',
    free: 'free',
    other: 'used by something else'
  };
  const much = size(pool, part);
  return `${words[look(part)]}${much ? ` (${much})` : part.state === 'free' ? ` (${part.size} of it)` : ''}`;
}

/** "GPU 1: yours (20 GB), in use (20 GB)". */
export function describeGpu(pool: IPool, gpu: IGpu): string {
  const parts = gpu.parts.map(part => spoken(pool, part));
  const away = [gpu.drained ? 'drained' : '', gpu.healthy ? '' : 'not healthy', gpu.reason].filter(Boolean).join(', ');
  return `GPU ${gpu.index}: ${[away, ...parts].filter(Boolean).join(', ')}`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(3)}%`;
}

function Slice(props: { pool: IPool; gpu: IGpu; part: IPart; height: number; words: boolean }): JSX.Element {
  const { pool, gpu, part, height, words } = props;
  const kind = look(part);
  const pattern = kind === 'idle' || kind === 'other' ? PATTERNS[kind] : null;
  const text = label(pool, part, part.size / gpu.slots > 0.24);
  return (
    <svg aria-hidden="true" x={percent(part.start / gpu.slots)} width={percent(part.size / gpu.slots)} height={height}>
      <title>{spoken(pool, part)}</title>
      <rect className={`specola-Slice specola-mod-${kind}`} x="1" y="1" rx="2" width="100%" height={height - 2} />
      {pattern && <rect fill={`url(#${pattern})`} x="1" y="1" rx="2" width="100%" height={height - 2} />}
      {kind === 'mine' && part.state === 'idle' && <rect fill={`url(#${PATTERNS.idle})`} width="100%" height={height} />}
      {words && (
        <>
          {pattern && <rect className="specola-Slice-plate" x="50%" y="4" width={6 * text.length} height={height - 8} style={{ transform: `translateX(-${3 * text.length}px)` }} />}
          <text className={`specola-Slice-text specola-mod-${kind}`} x="50%" y={height / 2} dy="0.35em" textAnchor="middle">
            {text}
          </text>
        </>
      )}
      {part.start + part.size < gpu.slots && (
        <rect className="specola-Slice-gap" x="100%" width="2" height={height} style={{ transform: 'translateX(-1px)' }} />
      )}
    </svg>
  );
}

function largest(parts: readonly IPart[]): IPart | null {
  return parts.reduce<IPart | null>((most, part) => (most && most.size >= part.size ? most : part), null);
}

/** A word on a plate in the middle of a part, so that it can be read on lines. */
function Plate(props: { part: IPart; slots: number; text: string }): JSX.Element {
  const { part, slots, text } = props;
  const width = 6 * text.length + 6;
  return (
    <svg aria-hidden="true" x={percent(part.start / slots)} width={percent(part.size / slots)} height={TALL}>
      <rect
        className="specola-Slice-plate"
        x="50%"
        y="3"
        width={width}
        height={TALL - 6}
        style={{ transform: `translateX(-${width / 2}px)` }}
      />
      <text className="specola-Slice-text" x="50%" y={TALL / 2} dy="0.35em" textAnchor="middle">
        {text}
      </text>
    </svg>
  );
}

function Drawn(props: { pool: IPool; gpu: IGpu; small: boolean }): JSX.Element {
  const { pool, gpu, small } = props;
  const height = small ? LOW : TALL;
  const away = gpu.drained || !gpu.healthy;
  const room = largest(gpu.parts.filter(part => !part.mine));
  return (
    <svg className="specola-Gpu-drawing" role="img" aria-label={describeGpu(pool, gpu)} width="100%" height={height}>
      <title>{describeGpu(pool, gpu)}</title>
      {gpu.parts.map(part => (
        <Slice key={part.start} pool={pool} gpu={gpu} part={part} height={height} words={!small && !(away && !part.mine)} />
      ))}
      {away && <rect fill={`url(#${PATTERNS.drained})`} width="100%" height={height} />}
      {away && !small && room && <Plate part={room} slots={gpu.slots} text={gpu.drained ? 'drained' : 'not healthy'} />}
    </svg>
  );
}

/** What stands for idle, drained and foreign: lines, so that colour is not needed. */
function Patterns(): JSX.Element {
  return (
    <svg width="0" height="0" aria-hidden="true" className="specola-Patterns">
      <defs>
        <pattern id={PATTERNS.idle} width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
          <rect className="specola-Hatch" width="2" height="6" />
        </pattern>
        <pattern id={PATTERNS.drained} width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
          <path className="specola-Hatch" d="M0 0h5v1h-4v4h-1z" />
        </pattern>
        <pattern id={PATTERNS.other} width="4" height="4" patternUnits="userSpaceOnUse">
          <circle className="specola-Hatch" cx="2" cy="2" r="1" />
        </pattern>
      </defs>
    </svg>
  );
}

function PoolMap(props: { pool: IPool }): JSX.Element {
  const { pool } = props;
  const small = pool.gpus.length > FEW;
  const shown = pool.gpus.slice(0, MOST_DRAWN);
  return (
    <section className="specola-Pool" aria-label={`GPUs of ${pool.name}`}>
      <div className="specola-Row">
        <b>{pool.model}</b>
        <span className="specola-Muted">{pool.name}</span>
        <span className="specola-grow" />
        {pool.simulated && (
          <span className="specola-Pill" title="These GPUs are invented: they follow the rules of real ones, and compute nothing.">
            simulated
          </span>
        )}
      </div>
      {pool.available ? null : <p className="specola-Muted">{pool.reason || 'You may not use it.'}</p>}
      {pool.gpus.length === 0 && pool.available && <Counts pool={pool} />}
      <ul className={small ? 'specola-Gpus specola-mod-small' : 'specola-Gpus'}>
        {shown.map(gpu => (
          <li key={gpu.id} className="specola-Gpu">
            {!small && (
              <span className="specola-Muted" aria-hidden="true">
                #{gpu.index}
              </span>
            )}
            <Drawn pool={pool} gpu={gpu} small={small} />
          </li>
        ))}
      </ul>
      {pool.queued > 0 && <p className="specola-Muted">{many(pool.queued, 'request')} in its queue</p>}
      {pool.gpus.length > MOST_DRAWN && <p className="specola-Muted">and {many(pool.gpus.length - MOST_DRAWN, 'more GPU')}</p>}
    </section>
  );
}

/** A site that does not say where its slices lie: how many there are. */
function Counts(props: { pool: IPool }): JSX.Element {
  return (
    <p className="specola-Muted">
      Not drawn, because the site decides where. Free: {freeSizes(props.pool)}.
    </p>
  );
}

/** GPUs and their slices, drawn; own ones stand out. */
export function GpuMap(props: { pools: readonly IPool[] }): JSX.Element {
  return (
    <div className="specola-Map">
      <Patterns />
      {props.pools.map(pool => (
        <PoolMap key={pool.name} pool={pool} />
      ))}
    </div>
  );
}
