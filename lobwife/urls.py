from django.contrib import admin
from django.urls import path

from lobwife.api import api
from lobwife.mcp.protocol import serve as mcp
from ops.site import job_page

admin.autodiscover()
admin.site.site_header = "lobwife"
admin.site.site_title = "lobwife"

urlpatterns = [
    # A page and not a redirect for who is not signed in: probes of the fleet look for "lobwife" in it.
    path("", admin.site.login, name="front-page"),
    path("jobs/<str:name>", job_page, name="job-page"),
    path("admin/", admin.site.urls),
    path("mcp", mcp, name="mcp"),
    path("", api.urls),
]

handler400 = "lobwife.error_responses.bad_request"
handler500 = "lobwife.error_responses.page_error"
