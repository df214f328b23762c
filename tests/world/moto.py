"""moto, which stands in for Amazon's services, with two things as Amazon has them.

It takes the parameters of a request without a body for its body, and so refuses even the signatures of Amazon's own
client. And it looks for a set that is to be created before it has deleted what the same batch deletes.
"""

import sys

from moto.iam.access_control import IAMRequestBase
from moto.route53.models import Route53Backend
from moto.server import main

request_as_it_comes = IAMRequestBase._create_aws_request
changes_as_they_come = Route53Backend.change_resource_record_sets


def request_of_the_body(self):
    self._data = b""
    return request_as_it_comes(self)


def changes_in_order(self, zoneid, change_list):
    for change in change_list:
        changes_as_they_come(self, zoneid, [change])


IAMRequestBase._create_aws_request = request_of_the_body
Route53Backend.change_resource_record_sets = changes_in_order
main(sys.argv[1:])
