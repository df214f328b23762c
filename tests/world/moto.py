"""moto, which stands in for Amazon's services and judges who asks, with two things as Amazon has them.

It takes the parameters of a request without a body for its body, and so refuses even the signatures of Amazon's own
client. And it refuses to create a set a second time, though it was deleted in between or by the same batch.

Whoever signs as `root` is not judged.
"""

import itertools
import sys

from moto import settings
from moto.core.authorization import ActionAuthenticatorMixin
from moto.iam.access_control import IAMRequestBase
from moto.route53.models import Route53Backend
from moto.server import main

judged_as_it_comes = ActionAuthenticatorMixin._authenticate_and_authorize_action
request_as_it_comes = IAMRequestBase._create_aws_request
numbers = itertools.count()
changes_as_they_come = Route53Backend.change_resource_record_sets


def judged(self, *arguments, **named):
    if "Credential=root/" not in self.headers.get("Authorization", ""):
        judged_as_it_comes(self, *arguments, **named)


def request_of_the_body(self):
    self._data = b""
    return request_as_it_comes(self)


def changes_unlike_all_before(self, zoneid, change_list):
    for change in change_list:
        change["Number"] = next(numbers)
    changes_as_they_come(self, zoneid, change_list)


settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
ActionAuthenticatorMixin._authenticate_and_authorize_action = judged
IAMRequestBase._create_aws_request = request_of_the_body
Route53Backend.change_resource_record_sets = changes_unlike_all_before
main(sys.argv[1:])
