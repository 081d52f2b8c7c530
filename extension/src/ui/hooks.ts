import type { ISignal } from '@lumino/signaling';
import * as React from 'react';

import type { Resource } from '../api/resource';

/** Draw again whenever a signal is emitted. */
export function useSignal(signal: ISignal<unknown, unknown>): void {
  const [, count] = React.useReducer((n: number) => n + 1, 0);
  React.useEffect(() => {
    const slot = (): void => count();
    signal.connect(slot);
    return () => void signal.disconnect(slot);
  }, [signal]);
}

/** Draw again when a resource changes; reads it once if nobody has. */
export function useResource<T>(resource: Resource<T>): Resource<T> {
  useSignal(resource.changed);
  React.useEffect(() => {
    if (resource.value === null) {
      void resource.refresh();
    }
  }, [resource]);
  return resource;
}

/** Call `act` every `ms` while `on`; null switches it off. */
export function usePoll(act: () => void, ms: number | null): void {
  const latest = React.useRef(act);
  latest.current = act;
  React.useEffect(() => {
    if (ms === null) {
      return undefined;
    }
    const timer = setInterval(() => document.visibilityState === 'visible' && latest.current(), ms);
    return () => clearInterval(timer);
  }, [ms]);
}
