import * as React from 'react';

import type { IAdvice, INewWish, IOffers, IProblem, IWish } from '../api/types';
import { span } from '../ui/format';
import { Problem } from '../ui/states';
import type { GpuModel } from './model';
import { problemOf } from './model';
import { basename, said, sight, sizes, usable } from './words';

const SETTLE_MS = 200;
const DURATIONS = [15, 30, 60, 120, 240, 480, 720, 1440];
const FIRST_MINUTES = 60;

type OnGrant = NonNullable<INewWish['on_grant']>;

/** What the newest position of the slider means, or why that is not known. */
function useAdvice(model: GpuModel, gib: number, minutes: number, pool: string): { advice: IAdvice | null; late: boolean } {
  const [advice, setAdvice] = React.useState<IAdvice | null>(null);
  const [late, setLate] = React.useState(true);
  const at = model.offers.at;
  React.useEffect(() => {
    let newest = true;
    setLate(true);
    const timer = setTimeout(() => {
      model.advice(gib, minutes, pool).then(
        found => newest && (setAdvice(found), setLate(false)),
        () => newest && setAdvice(null)
      );
    }, SETTLE_MS);
    return () => {
      newest = false;
      clearTimeout(timer);
    };
  }, [model, gib, minutes, pool, at]);
  return { advice, late };
}

function longest(offers: IOffers): number {
  return Math.max(0, ...offers.allowances.map(one => one.longest_minutes)) || DURATIONS[DURATIONS.length - 1];
}

/** Durations that the groups allow, the longest of them included. */
export function durations(offers: IOffers): number[] {
  const most = longest(offers);
  return [...new Set([...DURATIONS.filter(one => one < most), most])];
}

/** "hold it 15 min". */
export function holding(offers: IOffers): string {
  return `hold it ${span(1000 * offers.hold)}`;
}

interface IWishForm {
  size: number;
  minutes: number;
  pool: string;
  group: string;
  onGrant: OnGrant;
  others: readonly string[];
}

function Choices<T extends string | number>(props: {
  id: string;
  label: string;
  value: T;
  options: readonly (readonly [T, string])[];
  change: (value: string) => void;
}): JSX.Element {
  return (
    <div className="specola-Row">
      <label className="specola-Ask-label" htmlFor={props.id}>
        {props.label}
      </label>
      <select id={props.id} value={props.value} onChange={event => props.change(event.target.value)}>
        {props.options.map(([value, text]) => (
          <option key={value} value={value}>
            {text}
          </option>
        ))}
      </select>
    </div>
  );
}

function Size(props: { steps: readonly number[]; size: number; change: (size: number) => void }): JSX.Element {
  const { steps, size, change } = props;
  return (
    <div className="specola-Row">
      <label htmlFor="specola-gpu-size">I need</label>
      <input
        id="specola-gpu-size"
        type="range"
        min={0}
        max={steps.length - 1}
        value={steps.indexOf(size)}
        aria-valuetext={`${size} GB of GPU memory`}
        onChange={event => change(steps[Number(event.target.value)])}
      />
      <output htmlFor="specola-gpu-size" className="specola-Number">
        {size} GB
      </output>
    </div>
  );
}

/** What the size means, live; when it is taken, other shapes that would do as well can be ticked. */
function Advice(props: {
  advice: IAdvice | null;
  late: boolean;
  others: readonly string[];
  toggle: (shape: string) => void;
}): JSX.Element {
  const { advice, late, others, toggle } = props;
  const more = advice?.choice?.free === 0 ? advice.alternatives.filter(one => one.shape !== advice.choice?.shape) : [];
  return (
    <div className={late ? 'specola-Advice specola-mod-late' : 'specola-Advice'}>
      <p role="status" className="specola-Muted">
        {advice?.text ?? 'Looking what is free…'}
      </p>
      {more.length > 0 && <div className="specola-Muted">These would do as well, if they come sooner:</div>}
      {more.map(one => (
        <label key={`${one.pool} ${one.shape}`} className="specola-Check specola-mod-long">
          <input type="checkbox" checked={others.includes(one.shape)} onChange={() => toggle(one.shape)} />
          {one.text}
        </label>
      ))}
    </div>
  );
}

/** The wish as the API takes it. */
function body(form: IWishForm, notebook: string | null): INewWish {
  return {
    gib: form.size,
    minutes: form.minutes,
    on_grant: form.onGrant,
    ...(form.onGrant === 'notebook' ? { notebook } : {}),
    ...(form.pool ? { pool: form.pool } : {}),
    ...(form.group ? { group: form.group } : {}),
    ...(form.others.length ? { alternatives: [...form.others] } : {})
  };
}

/** Nearest size there is: a pool may lack the one that was chosen. */
function nearest(steps: readonly number[], wanted: number): number {
  return steps.reduce((best, one) => (Math.abs(one - wanted) < Math.abs(best - wanted) ? one : best), steps[0]);
}

function Sight(props: { offers: IOffers; pool: string }): JSX.Element | null {
  const pool = usable(props.offers).find(one => one.name === props.pool);
  return pool ? <p className="specola-Muted">{sight(pool)}</p> : null;
}

/** Begin with what was asked for last. */
function lastWish(model: GpuModel): Pick<IWishForm, 'size' | 'minutes'> {
  const last = (model.wishes.value ?? []).reduce<IWish | null>((a, b) => (a && a.created > b.created ? a : b), null);
  return { size: last?.wants[0] ? said(last.wants[0]) : 0, minutes: last?.minutes ?? FIRST_MINUTES };
}

/** The form: how much, for how long, and what to do when it comes. */
export function Ask(props: {
  model: GpuModel;
  offers: IOffers;
  notebook: string | null;
  form: React.Ref<HTMLFormElement>;
  asked: () => void;
}): JSX.Element {
  const { model, offers, notebook } = props;
  const [form, setForm] = React.useState<IWishForm>(() => ({ ...lastWish(model), pool: '', group: '', onGrant: 'hold', others: [] }));
  const [busy, setBusy] = React.useState(false);
  const [problem, setProblem] = React.useState<IProblem | null>(null);
  const set = (change: Partial<IWishForm>): void => setForm(now => ({ ...now, ...change }));
  const pools = usable(offers);
  const steps = sizes(offers, form.pool);
  const size = steps.includes(form.size) ? form.size : nearest(steps, form.size);
  const minutes = durations(offers).includes(form.minutes) ? form.minutes : longest(offers);
  const onGrant = form.onGrant === 'notebook' && !notebook ? 'hold' : form.onGrant;
  const { advice, late } = useAdvice(model, size, minutes, form.pool);
  const submit = async (event: React.FormEvent): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      await model.ask(body({ ...form, size, minutes, onGrant }, notebook));
      set({ others: [] });
      props.asked();
    } catch (error) {
      setProblem(problemOf(error));
    } finally {
      setBusy(false);
    }
  };
  const grants: [OnGrant, string][] = [
    ['hold', holding(offers)],
    ['kernel', 'start a kernel'],
    ...(notebook ? [['notebook', `run ${basename(notebook)}`] as [OnGrant, string]] : [])
  ];
  return (
    <form ref={props.form} className="specola-Ask" aria-label="Ask for a GPU" onSubmit={event => void submit(event)}>
      <Size steps={steps} size={size} change={value => set({ size: value, others: [] })} />
      <Choices
        id="specola-gpu-minutes"
        label="for"
        value={minutes}
        options={durations(offers).map(one => [one, span(60_000 * one)])}
        change={value => set({ minutes: Number(value) })}
      />
      {pools.length > 1 && (
        <Choices
          id="specola-gpu-pool"
          label="on"
          value={form.pool}
          options={[['', 'any GPU'], ...pools.map(pool => [pool.name, `${pool.model} (${pool.name})`] as const)]}
          change={value => set({ pool: value, others: [] })}
        />
      )}
      {offers.allowances.length > 1 && (
        <Choices
          id="specola-gpu-group"
          label="for group"
          value={form.group}
          options={[['', 'that suits best'], ...offers.allowances.map(one => [one.group, one.group] as const)]}
          change={value => set({ group: value })}
        />
      )}
      <Advice
        advice={advice}
        late={late}
        others={form.others}
        toggle={shape => set({ others: form.others.includes(shape) ? form.others.filter(one => one !== shape) : [...form.others, shape] })}
      />
      <Choices
        id="specola-gpu-grant"
        label="when granted"
        value={onGrant}
        options={grants}
        change={value => set({ onGrant: value as OnGrant })}
      />
      <Sight offers={offers} pool={form.pool || (advice?.choice?.pool ?? pools[0].name)} />
      {problem && <Problem problem={problem} dismiss={() => setProblem(null)} />}
      <div className="specola-Row">
        <span className="specola-grow" />
        <button type="submit" className="specola-Button specola-mod-primary" disabled={busy}>
          {busy ? 'Asking…' : 'Ask'}
        </button>
      </div>
    </form>
  );
}

