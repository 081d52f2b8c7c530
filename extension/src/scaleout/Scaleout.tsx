import * as React from 'react';

import type { ISite } from '../api/types';
import { useResource, useSignal, usePoll } from '../ui/hooks';
import { Empty, Loading, Problem } from '../ui/states';
import type { ISignal } from '@lumino/signaling';
import { ClusterCard } from './ClusterCard';
import type { IActions } from './ClusterCard';
import type { ScaleoutModel } from './model';
import { NewCluster, describeSite } from './NewCluster';

const RESTING_MS = 20_000;
const MOVING_MS = 1_500;
const DEFAULT_MOST = 8;

/** Whether the form is open: the panel, the launcher and a command all open it. */
export interface IForm {
  open: boolean;
  changed: ISignal<unknown, boolean>;
  set: (open: boolean) => void;
}

function sitesLine(sites: ISite[]): string {
  return `${sites.length === 1 ? 'Site' : 'Sites'}: ${sites.map(site => `${site.name} (${describeSite(site)})`).join(', ')}.`;
}

/** What is focused when a form closes and takes the focus with it. */
function useFocusBack(open: boolean): React.RefObject<HTMLButtonElement> {
  const target = React.useRef<HTMLButtonElement>(null);
  const was = React.useRef(open);
  React.useEffect(() => {
    if (was.current && !open && document.activeElement === document.body) {
      target.current?.focus();
    }
    was.current = open;
  }, [open]);
  return target;
}

/** The section: sites in a line, a card for each cluster, the form. */
export function Scaleout(props: { model: ScaleoutModel; actions: IActions; form: IForm; visible: boolean }): JSX.Element {
  const { model, actions, form, visible } = props;
  const clusters = useResource(model.clusters);
  const sites = useResource(model.sites);
  useSignal(form.changed);
  const opener = useFocusBack(form.open);
  usePoll(() => void clusters.refresh(), visible ? (model.isMoving ? MOVING_MS : RESTING_MS) : null);
  const retry = (): void => {
    void clusters.refresh();
    void sites.refresh();
  };
  if (!clusters.value) {
    return clusters.problem ? <Problem problem={clusters.problem} retry={retry} /> : <Loading what="your clusters" />;
  }
  const button = (
    <button ref={opener} className="specola-Button specola-mod-primary" disabled={!sites.value} onClick={() => form.set(true)}>
      New cluster
    </button>
  );
  const most = (name: string): number => sites.value?.find(site => site.name === name)?.max_workers ?? DEFAULT_MOST;
  return (
    <div className={clusters.problem ? 'specola-mod-stale' : undefined}>
      {clusters.problem && <Problem problem={clusters.problem} retry={retry} />}
      {sites.problem && !clusters.problem && <Problem problem={sites.problem} retry={retry} />}
      {clusters.value.map(cluster => (
        <ClusterCard
          key={cluster.name}
          cluster={cluster}
          model={model}
          actions={actions}
          most={most(cluster.site)}
          visible={visible}
        />
      ))}
      {form.open && sites.value ? (
        <NewCluster model={model} close={() => form.set(false)} />
      ) : clusters.value.length === 0 ? (
        <Empty action={button}>No cluster yet. {sites.value ? sitesLine(sites.value) : ''}</Empty>
      ) : (
        <>
          {sites.value && <p className="specola-Muted">{sitesLine(sites.value)}</p>}
          <div className="specola-Row">{button}</div>
        </>
      )}
    </div>
  );
}
