// The first request of each of a hundred tenants within a second, beside a warm one: k6 run loadtest/k6/cold.js
// A second run finds the components in memory.
import exec from 'k6/execution';
import { common, page } from './lib.js';

export const options = {
  ...common,
  scenarios: {
    warm: { executor: 'constant-arrival-rate', rate: 100, duration: '15s', preAllocatedVUs: 20, exec: 'warm' },
    storm: { executor: 'shared-iterations', vus: 100, iterations: 100, startTime: '8s', maxDuration: '10s', exec: 'cold' },
  },
  thresholds: {
    checks: ['rate==1.0'],
    'http_req_waiting{scenario:warm}': ['p(99)<50'],
    'http_req_waiting{scenario:storm}': ['p(99)<500'],
  },
};

export function warm() {
  page();
}

export function cold() {
  page(`cold${exec.scenario.iterationInTest}`);
}
