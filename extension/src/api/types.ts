/** The nouns of the wire. Those of the facility's API are checked against openapi.json by tests/lab. */

/** RFC 9457. */
export interface IProblem {
  type: string;
  title: string;
  status: number;
  detail: string;
  reason: string;
  request_id: string;
}

export interface IGroup {
  name: string;
  roles: string[];
  why: string;
}

export interface IRight {
  what: string;
  allowed: boolean;
  why: string;
}

export interface IMe {
  name: string;
  full_name: string;
  groups: IGroup[];
  roles: string[];
  rights: IRight[];
  limits: { memory_gib?: number | null; cores?: number | null; workers?: number };
  facility?: string;
}

export type ClusterStatus = 'pending' | 'starting' | 'running' | 'stopping' | 'stopped' | 'failed';

export interface ICluster {
  name: string;
  site: string;
  environment: string;
  status: ClusterStatus;
  reason: string;
  workers: { wanted: number; running: number; starting: number };
  adaptive: { minimum: number; maximum: number } | null;
  started: number;
  idle_since: number | null;
  stops_at?: number | null;
  dashboard: string | null;
}

export interface ISite {
  name: string;
  kind: string;
  available?: boolean;
  reason?: string;
  free?: number | null;
  max_workers?: number | null;
}

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
