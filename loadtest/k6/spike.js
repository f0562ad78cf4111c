// 50 requests a second, 1,500 for three seconds, and 50 again: k6 run loadtest/k6/spike.js
import { common, page } from './lib.js';

export const options = {
  ...common,
  scenarios: {
    spike: {
      executor: 'ramping-arrival-rate',
      startRate: 50,
      preAllocatedVUs: 100,
      maxVUs: 1000,
      stages: [
        { target: 50, duration: '10s' },
        { target: 1500, duration: '1s' },
        { target: 1500, duration: '3s' },
        { target: 50, duration: '1s' },
        { target: 50, duration: '10s' },
      ],
    },
  },
  thresholds: { checks: ['rate==1.0'], http_req_duration: ['p(99)<500'] },
};

export default function () {
  page();
}
