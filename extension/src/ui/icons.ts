import { LabIcon } from '@jupyterlab/ui-components';

const DOME = 'M3 20h18v-2H3zM4 17a8 8 0 0 1 16 0h-5l2-9-3-1-2 10z';
const NODES = 'M12 2a3 3 0 0 1 1 5.8V11h5a1 1 0 0 1 1 1v2.2a3 3 0 1 1-2 0V13h-4v1.2a3 3 0 1 1-2 0V13H7v1.2a3 3 0 1 1-2 0V12a1 1 0 0 1 1-1h5V7.8A3 3 0 0 1 12 2z';
const CHIP = 'M7 5V2h2v3h2V2h2v3h2V2h2v3h2v2h3v2h-3v2h3v2h-3v2h3v2h-3v2h-2v3h-2v-3h-2v3h-2v-3H9v3H7v-3H5v-2H2v-2h3v-2H2v-2h3V9H2V7h3V5zM7 7v10h10V7zm2 2h6v6H9z';

function svg(path: string): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24"><path class="jp-icon3" fill="#616161" d="${path}"/></svg>`;
}

/** An observatory's dome: the facility. */
export const domeIcon = new LabIcon({ name: 'specola:dome', svgstr: svg(DOME) });

/** One node above three: a cluster. */
export const clusterIcon = new LabIcon({ name: 'specola:cluster', svgstr: svg(NODES) });

/** A chip: a GPU. */
export const gpuIcon = new LabIcon({ name: 'specola:gpu', svgstr: svg(CHIP) });
