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

/** What GPUs there are, and what is free of them. */
export type IOffers = Wire['Offers'];

/** GPUs of one model behind one way of getting them. */
export type IPool = Wire['PoolOffer'];

/** One GPU of the map. */
export type IGpu = Wire['Gpu'];

/** A slice, or free room, on a GPU. */
export type IPart = Wire['Part'];

/** One way to get a size. */
export type IChoice = Wire['Choice'];

/** What a size in GB means here, now. */
export type IAdvice = Wire['Advice'];

/** A wait in seconds; nobody knows the end where `high` is null. */
export type IRange = Wire['Range'];

/** A wish for a GPU in the queue, or what became of it. */
export type IWish = Wire['Request'];

/** What is asked for with a new wish; the service knows the rest. */
export type INewWish = Partial<Wire['NewRequest']>;

/** A slice on lease. */
export type ILease = Wire['Lease'];

/** What of a kernel was saved when its lease ended. */
export type ISaved = Wire['SavedNames'];

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
