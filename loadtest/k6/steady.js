// 200 requests a second for 30 s: k6 run loadtest/k6/steady.js
import { common, page } from './lib.js';

export const options = {
  ...common,
  scenarios: { steady: { executor: 'constant-arrival-rate', rate: 200, duration: '30s', preAllocatedVUs: 20, maxVUs: 200 } },
  thresholds: { checks: ['rate==1.0'], dropped_iterations: ['count==0'], http_req_duration: ['p(50)<10', 'p(99)<50'] },
};

export default function () {
  page();
}
