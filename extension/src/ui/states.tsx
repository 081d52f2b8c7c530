import * as React from 'react';

import type { IProblem } from '../api/types';
import { clock } from './format';

/** True once `ms` have gone by: an answer that comes sooner shows no flicker. */
function useLater(ms: number): boolean {
  const [late, setLate] = React.useState(false);
  React.useEffect(() => {
    const timer = setTimeout(() => setLate(true), ms);
    return () => clearTimeout(timer);
  }, [ms]);
  return late;
}

/** Grey lines in the place of what is still to come. */
export function Loading(props: { what: string }): JSX.Element {
  return (
    <div role="status" aria-label={`Loading ${props.what}`} className="specola-Loading">
      {useLater(200) && (
        <>
          <div className="specola-Skeleton" style={{ width: '80%' }} />
          <div className="specola-Skeleton" style={{ width: '60%' }} />
        </>
      )}
    </div>
  );
}

/** One sentence, and the one thing to do about it. */
export function Empty(props: { children: React.ReactNode; action?: React.ReactNode }): JSX.Element {
  return (
    <div className="specola-Empty">
      <p>{props.children}</p>
      {props.action}
    </div>
  );
}

/** What is wrong, what to do, and what to quote when asking for help. */
export function Problem(props: { problem: IProblem; retry?: () => void; dismiss?: () => void }): JSX.Element {
  const [copied, setCopied] = React.useState(false);
  const { title, detail, request_id: requestId } = props.problem;
  const copy = (): void => {
    navigator.clipboard.writeText(requestId).then(
      () => setCopied(true),
      () => setCopied(false)
    );
  };
  return (
    <div role="alert" className="specola-Note specola-mod-bad">
      <b>{title}</b>
      {detail && <div>{detail}</div>}
      <div className="specola-Row">
        {props.retry && (
          <button className="specola-Link" onClick={props.retry}>
            Retry
          </button>
        )}
        {props.dismiss && (
          <button className="specola-Link" onClick={props.dismiss}>
            Dismiss
          </button>
        )}
        {requestId && (
          <button className="specola-Link" onClick={copy} title={requestId}>
            {copied ? 'Copied' : 'Copy request id'}
          </button>
        )}
      </div>
    </div>
  );
}

/** Shown while nothing new arrives. */
export function Offline(props: { since: number }): JSX.Element {
  return (
    <div role="status" className="specola-Note specola-mod-warn specola-Offline">
      The facility does not answer; last seen {clock(props.since)}. Your notebooks and clusters go on; this page
      reconnects by itself.
    </div>
  );
}
