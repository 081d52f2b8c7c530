import * as React from 'react';

/** One fold of the panel: a heading that is a button, one line of state, and a body. */
export function Section(props: {
  id: string;
  title: string;
  summary: string;
  open: boolean;
  toggle: () => void;
  children: React.ReactNode;
}): JSX.Element {
  const body = `specola-section-${props.id}`;
  return (
    <section className="specola-Section" aria-labelledby={`${body}-title`}>
      <h2 className="specola-Section-head">
        <button id={`${body}-title`} aria-expanded={props.open} aria-controls={body} onClick={props.toggle}>
          <span aria-hidden="true" className="specola-Section-mark">
            {props.open ? '▾' : '▸'}
          </span>
          <span className="specola-Section-title">{props.title}</span>
          <span className="specola-Section-summary">{props.summary}</span>
        </button>
      </h2>
      <div id={body} className="specola-Section-body" hidden={!props.open}>
        {props.open && props.children}
      </div>
    </section>
  );
}
