import { eventsPlugin } from './api/plugin';
import { gpuNoticesPlugin } from './gpu/notices';
import { gpuPlugin } from './gpu/plugin';
import { gpuStatusPlugin } from './gpu/status';
import { identityPlugin } from './identity/plugin';
import { panelPlugin } from './panel/plugin';
import { launcherPlugin } from './scaleout/launcher';
import { scaleoutPlugin } from './scaleout/plugin';
import { statusPlugin } from './scaleout/status';
import { cullingPlugin } from './servers/culling';

export { IEventStream } from './api/plugin';
export { IGpus } from './gpu/model';
export { IPanel } from './panel/token';
export { IScaleout } from './scaleout/model';

export default [
  eventsPlugin,
  panelPlugin,
  identityPlugin,
  gpuPlugin,
  gpuStatusPlugin,
  gpuNoticesPlugin,
  scaleoutPlugin,
  statusPlugin,
  launcherPlugin,
  cullingPlugin
];
