# Where LuCI's pages go; with LANGUAGE set, where their translation goes, which is a package of its own.

LUCI_LANG.de := Deutsch (German)

ifdef LANGUAGE
LUCI_BASENAME := $(PKG_NAME:luci-app-%=%)
LUCI_TITLE := $(PKG_NAME) - $(LANGUAGE) translation
LUCI_DESCRIPTION := Translation for $(PKG_NAME) - $(LUCI_LANG.$(LANGUAGE))
LUCI_DEPENDS := +$(PKG_NAME)
PKG_NAME := luci-i18n-$(LUCI_BASENAME)-$(LANGUAGE)

define Package/$(PKG_NAME)/install
	$(INSTALL_DIR) $(1)/usr/lib/lua/luci/i18n $(1)/etc/uci-defaults
	$(TOPDIR)/po2lmo po/$(LANGUAGE)/$(LUCI_BASENAME).po $(1)/usr/lib/lua/luci/i18n/$(LUCI_BASENAME).$(LANGUAGE).lmo
	echo "uci set luci.languages.$(LANGUAGE)='$(LUCI_LANG.$(LANGUAGE))'; uci commit luci" >$(1)/etc/uci-defaults/$(PKG_NAME)
endef
else
define Package/$(PKG_NAME)/install
	$(INSTALL_DIR) $(1)/www
	cp -R htdocs/* $(1)/www/
	cp -R root/* $(1)/
	chmod -R u=rwX,go=rX $(1)
endef
endif

define Package/$(PKG_NAME)
  SECTION := luci
  TITLE := $(LUCI_TITLE)
  DEPENDS := $(LUCI_DEPENDS)
  PKGARCH := $(LUCI_PKGARCH)
  URL := $(LUCI_URL)
endef

define Package/$(PKG_NAME)/description
  $(LUCI_DESCRIPTION)
endef

define Package/$(PKG_NAME)/postinst
#!/bin/sh
[ -n "$${IPKG_INSTROOT}" ] && exit 0
rm -rf /tmp/luci-indexcache.* /tmp/luci-modulecache
/etc/init.d/rpcd reload
exit 0
endef

include $(INCLUDE_DIR)/package.mk

$(eval $(call BuildPackage,$(PKG_NAME)))
