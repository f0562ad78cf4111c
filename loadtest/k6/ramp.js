// From 50 to 1,000 requests a second in 40 s, and down again: k6 run loadtest/k6/ramp.js
import { common, page } from './lib.js';

export const options = {
  ...common,
  scenarios: {
    ramp: {
      executor: 'ramping-arrival-rate',
      startRate: 50,
      preAllocatedVUs: 50,
      maxVUs: 500,
      stages: [{ target: 1000, duration: '40s' }, { target: 50, duration: '10s' }],
    },
  },
  thresholds: { checks: ['rate==1.0'], http_req_duration: ['p(99)<100'] },
};

export default function () {
  page();
}
