/** The nouns of the wire. Those of the facility's API come from openapi.json (`npm run schema`). */
import type { components } from './schema';

type Wire = components['schemas'];

/** RFC 9457. */
export type IProblem = Wire['Problem'];

/** Who I am. */
export type IMe = Wire['Me'];

/** A Dask cluster. */
export type ICluster = Wire['Cluster'];

/** Where workers can run. */
export type ISite = Wire['Site'];

export interface IWorker {
  name: string;
  host: string;
  nthreads: number;
  memory: number;
  memory_limit: number;
  cpu: number;
  executing: number;
  ready: number;
  spilled: number;
}

export interface IWorkers {
  workers: IWorker[];
  totals: Omit<IWorker, 'name' | 'host'> & { workers: number };
  tasks?: { processed: number; erred: number; processing: number; waiting: number };
}

export interface IHome {
  used: number;
  quota: number | null;
  percent: number | null;
}

export interface IItems<T> {
  items: T[];
}
